"""Which cells can run here, by their tags; for conftest.py and the canonicaliser.

`gpu` needs CUDA. `real-data` needs the data sets that the cell's tags `data:<name>` name, keys of
attn.tasks.sources.SOURCES.
"""

from collections.abc import Callable, Collection, Iterable
from functools import cache

CHOICES = ("auto", "yes", "no")
DATA = "data:"  # a data set that a cell needs


@cache
def cuda_is_here() -> bool:
    import torch

    return torch.cuda.is_available()


def data_is_here(tags: Iterable[str]) -> bool:
    """Whether the data sets that `tags` name are here without the network: in the folder ATTN_DATA, or
    downloaded before.
    """
    return all(_available(tag.removeprefix(DATA)) for tag in tags if tag.startswith(DATA))


@cache
def _available(name: str) -> bool:
    from attn.tasks.download import available

    return available(name)


# tag: (can a cell with these tags run here?, the reason when it cannot, the reason when the option says no)
_NEEDS: dict[str, tuple[Callable[[Collection[str]], bool], str, str]] = {
    "gpu": (lambda _: cuda_is_here(), "needs CUDA, and there is none here", "--gpu no"),
    "real-data": (data_is_here, "needs the real data: set ATTN_DATA or download it once", "--real-data no"),
}


def skip_reason(tags: Collection[str], *, gpu: str = "auto", real_data: str = "auto") -> str | None:
    """Why a cell with these tags is skipped here, or None when it runs.

    gpu and real_data are "auto" (look whether it is here), "yes" (run, come what may) or "no" (skip).
    """
    wanted = {"gpu": gpu, "real-data": real_data}
    for tag in tags:
        if tag in _NEEDS and wanted[tag] != "yes":
            is_here, missing, refused = _NEEDS[tag]
            if wanted[tag] == "no":
                return f"{tag} cell: {refused}"
            if not is_here(tags):
                return f"{tag} cell: {missing}"
    return None
