"""`attn doctor`: what of this machine the course can use, and what to do about what it cannot.

Everything here works without torch, since a broken torch is what a doctor is called for.
"""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

OLDEST_PYTHON = (3, 11)


class Finding(NamedTuple):
    """One line of the report. FAIL: the course cannot run. WARN: a part of it cannot, or runs slower."""

    verdict: Literal["OK", "WARN", "FAIL"]
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:4}  {self.subject:8}  {self.text}"


def examine() -> Iterator[Finding]:
    """All findings, one by one, as soon as each is known."""
    yield python()
    torch, finding = import_torch()
    yield finding
    if torch is not None:
        yield device(torch)
        yield threads(torch)
    yield packages()
    yield notebooks()
    yield from data()
    yield fence()


def python() -> Finding:
    """Whether this Python is new enough."""
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Finding(
            "FAIL", "python", f"{platform.python_version()} is too old: install Python {oldest} or newer"
        )
    return Finding("OK", "python", f"{platform.python_version()} ({sys.executable})")


def import_torch() -> tuple[Any, Finding]:
    """(torch or None, the finding)."""
    try:
        import torch
    except ImportError as error:
        return None, Finding(
            "FAIL",
            "torch",
            f"cannot be imported ({_line(error)}): install it as pytorch.org/get-started says",
        )
    except Exception as error:  # a damaged installation can fail in any way, and the other lines still help
        return None, Finding(
            "FAIL", "torch", f"is broken ({_line(error)}): pip install --force-reinstall torch"
        )
    return torch, Finding("OK", "torch", torch.__version__)


def device(torch: Any) -> Finding:
    """The device that training takes."""
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        count = torch.cuda.device_count()
        more = f", and {count - 1} more (torchrun uses them all)" if count > 1 else ""
        return Finding("OK", "device", f"cuda: {card.name}, {card.total_memory / 2**30:.0f} GiB{more}")
    if torch.backends.mps.is_available():
        return Finding("OK", "device", "mps: Apple's graphics processor")
    if shutil.which("nvidia-smi"):
        return Finding(
            "WARN",
            "device",
            "an NVIDIA driver is here but this torch cannot use it: install torch's CUDA build",
        )
    return Finding("OK", "device", "cpu: enough for every notebook; cells tagged gpu are skipped")


def threads(torch: Any) -> Finding:
    """Whether torch has more threads than cores: they then wait for each other, and small models crawl."""
    cores, used = _cores(), torch.get_num_threads()
    if used > cores:
        return Finding(
            "WARN", "threads", f"torch uses {used} threads on {cores} core(s): set OMP_NUM_THREADS={cores}"
        )
    advice = "" if used == 1 else "; where other programs compute too, OMP_NUM_THREADS=1 is often faster"
    return Finding("OK", "threads", f"torch uses {used} of {cores} core(s){advice}")


def packages() -> Finding:
    """Whether what pyproject.toml asks for is installed."""
    try:
        wanted = [r for r in importlib.metadata.requires("attn") or [] if "extra ==" not in r]
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "WARN", "packages", "attn itself is not installed: pip install -e . in the course's folder"
        )
    wrong = [problem for requirement in wanted if (problem := _problem(requirement))]
    if wrong:
        return Finding("FAIL", "packages", f"{', '.join(wrong)}: pip install -r requirements.txt")
    return Finding("OK", "packages", f"all {len(wanted)} that attn needs")


def notebooks() -> Finding:
    """Whether something here can open a notebook."""
    if any(find_spec(name) for name in ("jupyterlab", "notebook")):
        return Finding("OK", "jupyter", "opens the notebooks: make course")
    if find_spec("ipykernel"):
        return Finding("OK", "jupyter", "a kernel is here, for an editor that opens notebooks")
    return Finding("WARN", "jupyter", "nothing here opens a notebook: pip install jupyterlab")


def data() -> Iterator[Finding]:
    """Which real data sets are on this machine. Asks no network."""
    try:
        from attn.tasks.download import available
        from attn.tasks.sources import SOURCES
    except ImportError as error:
        yield Finding("WARN", "data", f"cannot tell ({_line(error)})")
        return
    folder = os.environ.get("ATTN_DATA")
    if folder and not Path(folder).is_dir():
        yield Finding("WARN", "data", f"ATTN_DATA={folder} is no folder: correct or unset it")
    for name, source in SOURCES.items():
        title = f"{source.title} ({source.licence})"
        if available(name):
            yield Finding("OK", "data", f"{title}: here")
        else:
            yield Finding(
                "WARN",
                "data",
                f"{title}: not here; downloaded when first used, or set ATTN_DATA to the folder "
                f"that holds {source.folder}/",
            )


def fence() -> Finding:
    """Whether other people's notebooks can be graded behind a wall (bubblewrap, Linux only)."""
    own = "grade only notebooks that you trust"
    if platform.system() != "Linux":
        return Finding("WARN", "fence", f"bubblewrap is for Linux: {own}, or grade in a Linux container")
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return Finding("WARN", "fence", f"bubblewrap is not installed: {own}, or apt install bubblewrap")
    command = [
        bwrap,
        "--unshare-all",
        "--die-with-parent",
        "--ro-bind",
        "/",
        "/",
        "--",
        sys.executable,
        "-c",
        "",
    ]
    try:
        trial = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("WARN", "fence", f"bubblewrap does not run ({_line(error)}): {own}")
    if trial.returncode:
        return Finding(
            "WARN",
            "fence",
            f"bubblewrap may not make namespaces here ({_line(trial.stderr)}): {own}, "
            "or ask who runs this machine for user namespaces",
        )
    return Finding("OK", "fence", "bubblewrap works: other people's notebooks can be graded")


def _problem(requirement: str) -> str | None:
    """What is wrong with the installation of "name>=lower bound", or None."""
    match = re.match(r"([\w.-]+)\s*(?:>=\s*([\d.]+))?", requirement)
    if match is None:
        return None
    name, lowest = match[1], match[2] or "0"
    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"{name} is missing"
    return f"{name} {installed} is older than {lowest}" if _numbers(installed) < _numbers(lowest) else None


def _numbers(version: str) -> list[int]:
    """ "2.13.0+cpu" -> [2, 13, 0]."""
    return [int(number) for number in re.findall(r"\d+", re.split(r"[^\d.]", version)[0])]


def _cores() -> int:
    """Cores this process may use. A container often may use fewer than it sees."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def _line(text: object) -> str:
    return " ".join(str(text).split())[:200] or type(text).__name__
