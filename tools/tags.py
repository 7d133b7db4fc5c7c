"""Which cells can run here, by the tags `gpu` and `real-data`; for conftest.py and the canonicaliser."""

from collections.abc import Callable, Iterable
from functools import cache

CHOICES = ("auto", "yes", "no")


@cache
def cuda_is_here() -> bool:
    import torch

    return torch.cuda.is_available()


@cache
def data_is_here() -> bool:
    """Whether the real data is here without the network: in the folder ATTN_DATA, or downloaded before."""
    from attn.tasks.download import available

    return available("multi30k")


# tag: (can it run here?, the reason when it cannot, the reason when the option says no)
_NEEDS: dict[str, tuple[Callable[[], bool], str, str]] = {
    "gpu": (cuda_is_here, "needs CUDA, and there is none here", "--gpu no"),
    "real-data": (data_is_here, "needs the real data: set ATTN_DATA or download it once", "--real-data no"),
}


def skip_reason(tags: Iterable[str], *, gpu: str = "auto", real_data: str = "auto") -> str | None:
    """Why a cell with these tags is skipped here, or None when it runs.

    gpu and real_data are "auto" (look whether it is here), "yes" (run, come what may) or "no" (skip).
    """
    wanted = {"gpu": gpu, "real-data": real_data}
    for tag in tags:
        if tag in _NEEDS and wanted[tag] != "yes":
            is_here, missing, refused = _NEEDS[tag]
            if wanted[tag] == "no":
                return f"{tag} cell: {refused}"
            if not is_here():
                return f"{tag} cell: {missing}"
    return None
