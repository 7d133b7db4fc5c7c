"""A training run on disk: one safetensors file, tensors and a JSON description, replaced in one piece.

Never pickle: unpickling runs whatever code the file holds.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

FILE_NAME = "checkpoint.safetensors"  # the name that `attn train` gives; any other may be loaded
_FORMAT = 1
_KEY = "attn"  # of our description in the file's header; a safetensors file without it is somebody else's


class CheckpointError(ValueError):
    """A file that is no checkpoint of this course, is damaged, or could not be written."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    weights: the model's state_dict.
    optimizer: what the optimiser remembers, by "<parameter>/<quantity>" ("encoder.norm.weight/exp_avg").
    about: anything that JSON can say: the model's configuration, vocabularies, the step, the history ...
    """

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


def save(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path` and create its folder; the file that was there stays whole until the end.

    The bytes go to a temporary file in the same folder, reach the disk (fsync), and take the name in one step
    (os.replace). A crash, a full disk or a pulled plug leaves either the old file or the new one.

    Raises CheckpointError where it cannot be written.
    """
    path = Path(path)
    tensors, same_as = _without_copies(
        {f"weights/{name}": tensor for name, tensor in checkpoint.weights.items()}
        | {f"optimizer/{name}": tensor for name, tensor in checkpoint.optimizer.items()}
    )
    description = {"format": _FORMAT, "same_as": same_as, "about": checkpoint.about}
    # The process id: two runs into one folder never write into each other's temporary file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(to_bytes(tensors, metadata={_KEY: json.dumps(description)}))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {path}: {error}. What was there before is untouched; free some space or choose "
            f"another folder"
        ) from error


def load(path: str | Path) -> Checkpoint:
    """Read what `save` wrote, on the CPU.

    Raises FileNotFoundError where there is no such file, CheckpointError where it is cut short, damaged, made
    by another program or by a newer version of this one.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        # clone(): a mapped file could not be replaced by the next save on Windows.
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}): it was cut short, damaged, or is of another "
            f"kind. Train again, or give the path of a {FILE_NAME}"
        ) from error
    try:
        description = json.loads(metadata[_KEY])
        version, same_as, about = description["format"], description["same_as"], description["about"]
        if version > _FORMAT:
            raise CheckpointError(f"{path} has format {version}, this attn reads up to {_FORMAT}: update it")
        tensors |= {copy: tensors[original] for copy, original in same_as.items()}
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path} is a safetensors file, but not one of this course: its description is missing or wrong"
        ) from error
    return Checkpoint(_part("weights/", tensors), _part("optimizer/", tensors), about)


def _part(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _without_copies(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Shared weights are written once: (tensors to write, {name left out: name of the same tensor})."""
    named: dict[tuple[object, ...], str] = {}
    storages = set()
    kept, same_as = {}, {}
    for name, tensor in tensors.items():
        original = named.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.device), name)
        if original != name and tensor.numel():
            same_as[name] = original
            continue
        # Tensors that overlap without being the same are written each in full: the format has no views.
        storage = tensor.untyped_storage().data_ptr()
        kept[name] = tensor.contiguous() if storage not in storages else tensor.clone().contiguous()
        storages.add(storage)
    return kept, same_as


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut. Windows cannot open a folder, and does not need it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
