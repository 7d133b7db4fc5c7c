"""Several processes, one model: data parallel training under torchrun.

    torchrun --nproc-per-node 2 -m attn.cli train numbers

Each process takes its share of the rows of every batch. A share may hold fewer tokens than another, so each
one's loss is divided by the tokens of the *whole* batch: their sum is then the loss that one process
computes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from attn.training.device import pick_device


@dataclass(frozen=True)
class Group:
    """The processes that train together: `size` of them; this is number `rank` and computes on `device`."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """The first process alone prints and writes files."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """`model` with gradients averaged over the processes; all start from the first one's weights."""
        if self.size == 1:
            return model
        own = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=own)

    def rows(self, batch_size: int) -> tuple[slice, int]:
        """This process's rows of a batch, and what their loss counts: 1, or 0 where there are too few rows.

        Processes wait for each other in every step, so one without rows computes on the first and counts it
        0.
        """
        if self.rank < batch_size:
            return slice(self.rank, None, self.size), 1
        return slice(0, 1), 0

    def sum(self, *numbers: Tensor | float) -> Tensor:
        """The sum over processes of each number, in float64 where the device has it. Shape (numbers,)."""
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        total = torch.stack([torch.as_tensor(n, dtype=dtype, device=self.device).detach() for n in numbers])
        if self.size > 1:
            dist.all_reduce(total)
        return total


def launched() -> tuple[int, int]:
    """(rank, number of processes) as torchrun tells it; (0, 1) without torchrun."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def group(device: str | torch.device | None = None) -> Iterator[Group]:
    """The group that torchrun launched this process in, left again at the end; alone without torchrun.

    `device` as for `pick_device`. With CUDA each process takes the GPU of its number on this machine
    (LOCAL_RANK). Raises ValueError where the device is not here or there are more processes than GPUs.
    """
    chosen = device if isinstance(device, torch.device) else pick_device(device)
    rank, size = launched()
    if size == 1:
        yield Group(chosen)
        return
    if chosen.type == "cuda":
        chosen = pick_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", rank=rank, world_size=size)
    try:
        yield Group(chosen, rank, size)
    finally:
        dist.destroy_process_group()
