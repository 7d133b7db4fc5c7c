"""Run by torchrun (and alone) in test_distributed: a short training; the first process writes its history."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from attn.tasks import load_task
from attn.training import fit
from attn.training.distributed import launched
from attn.transformer import Transformer

folder = Path(sys.argv[1])
task = load_task("numbers", limit=100)
rank, size = launched()
# No dropout, which each process draws for itself. Other weights in each: all must start from the first's.
torch.manual_seed(rank)
model = Transformer(
    len(task.source),
    len(task.target),
    d_model=16,
    n_heads=2,
    n_encoder_layers=1,
    n_decoder_layers=1,
    d_ff=32,
    dropout=0.0,
    norm="pre",
    share_embeddings="target",
)
# 85 pairs, 14 a batch: the seventh batch has one row, and nothing for the second process.
history = fit(
    model,
    task,
    steps=9,
    batch_size=14,
    validate_every=4,
    learning_rate=5e-3,
    progress=False,
    checkpoint=folder / "c",
)
if rank == 0:
    weight = model.to_logits.weight.detach().double()
    (folder / "history.json").write_text(
        json.dumps(asdict(history) | {"weights": weight.tolist(), "size": size})
    )
