"""A trained translator from its checkpoint: the model and the task's vocabularies, without any data."""

from pathlib import Path

from attn.tasks import restore_task
from attn.tasks.translation import TranslationTask
from attn.training.checkpoint import CheckpointError, load
from attn.transformer import Transformer


def load_translator(path: str | Path) -> tuple[Transformer, TranslationTask]:
    """The model that `fit` saved at `path`, in eval mode on the CPU, and its task without sentences.

    Raises FileNotFoundError where there is no such file, CheckpointError where it holds no Transformer.
    """
    checkpoint = load(path)
    try:
        task = restore_task(checkpoint.about["task"])
        model = Transformer(**checkpoint.about["model"])
        model.load_state_dict(checkpoint.weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} holds no translator that this version can rebuild: {error}") from error
    return model.eval(), task
