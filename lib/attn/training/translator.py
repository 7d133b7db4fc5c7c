"""A trained translator from its checkpoint: the model and the task's vocabularies, without any data."""

from pathlib import Path
from typing import Any

from torch import nn

from attn.rivals import Seq2Seq
from attn.tasks import restore_task
from attn.tasks.translation import TranslationTask
from attn.training.checkpoint import CheckpointError, load
from attn.transformer import Transformer

_ARCHITECTURES: dict[str, type[Transformer] | type[Seq2Seq]] = {
    "Transformer": Transformer,
    "Seq2Seq": Seq2Seq,
}


def architecture(model: nn.Module) -> str | None:
    """What a checkpoint calls this kind of model; None for one that `load_translator` cannot rebuild."""
    return next((name for name, kind in _ARCHITECTURES.items() if isinstance(model, kind)), None)


def rebuild(about: dict[str, Any]) -> Transformer | Seq2Seq:
    """A new model of the kind and the configuration that a checkpoint's `about` describes.

    Raises CheckpointError where it is of another kind, KeyError, TypeError or ValueError where the
    configuration is not of this kind.
    """
    name = about.get("architecture", "Transformer")  # the first checkpoints do not say: they are Transformers
    if name not in _ARCHITECTURES:
        raise CheckpointError(f"the model is none of {', '.join(_ARCHITECTURES)}: rebuild it yourself")
    return _ARCHITECTURES[name](**about["model"])


def load_translator(path: str | Path) -> tuple[Transformer | Seq2Seq, TranslationTask]:
    """The model that `fit` saved at `path`, in eval mode on the CPU, and its task without sentences.

    Raises FileNotFoundError where there is no such file, CheckpointError where it holds neither a Transformer
    nor a Seq2Seq.
    """
    checkpoint = load(path)
    try:
        task = restore_task(checkpoint.about["task"])
        model = rebuild(checkpoint.about)
        model.load_state_dict(checkpoint.weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} holds no translator that this version can rebuild: {error}") from error
    return model.eval(), task
