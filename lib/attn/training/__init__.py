"""Training a translator: loss, schedule, loop, checkpoints, devices, several processes.

history = fit(model, task, steps=400)          # trains, with a progress bar
translate(model, task, ["forty-two"])          # ["zweiundvierzig"]
evaluate(model, task, task.test)               # {"exact_match": 99.2}
"""

from attn.training.checkpoint import Checkpoint as Checkpoint
from attn.training.checkpoint import CheckpointError as CheckpointError
from attn.training.device import autocast as autocast
from attn.training.device import pick_device as pick_device
from attn.training.evaluation import evaluate as evaluate
from attn.training.evaluation import mean_loss as mean_loss
from attn.training.evaluation import translate as translate
from attn.training.labels import fit_labels as fit_labels
from attn.training.labels import label_accuracy as label_accuracy
from attn.training.labels import label_loss as label_loss
from attn.training.labels import predict_labels as predict_labels
from attn.training.loop import History as History
from attn.training.loop import TrainingDiverged as TrainingDiverged
from attn.training.loop import fit as fit
from attn.training.loss import token_loss as token_loss
from attn.training.minimise import minimise as minimise
from attn.training.schedule import warmup_cosine as warmup_cosine
from attn.training.schedule import warmup_inverse_sqrt as warmup_inverse_sqrt
from attn.training.translator import load_translator as load_translator
