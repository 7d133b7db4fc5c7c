"""How two ways of doing the same thing are compared: turn by turn, as medians of ratios."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Ratio:
    """Ours over theirs: below 1 ours is faster. Medians over the pairs, with the quartiles of CPU time
    beside.
    """

    name: str
    wall: float
    cpu: float
    low: float
    high: float
    bar: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the CPU-time ratio keeps the bar; None where there is none. CPU time is the steadier on a
        shared machine.
        """
        return None if self.bar is None else self.cpu <= self.bar

    def __str__(self) -> str:
        verdict = "" if self.bar is None else f"  bar {self.bar:.2f} {'met' if self.met else 'MISSED'}"
        cpu = f"cpu {self.cpu:5.2f} [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.name:58s} {cpu}  wall {self.wall:5.2f}{verdict}"


def compare(
    name: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    pairs: int = 9,
    seconds: float = 0.4,
    bar: float | None = None,
) -> Ratio:
    """Run ours and theirs alternately, each time long enough (about `seconds`) to read the clock well.

    Interleaving lets both feel the same neighbours; the order alternates, so that neither always inherits
    the other's caches.
    """
    once = min(_spent(ours)[0], _spent(ours)[0])  # the first call warms up
    theirs()
    repeats = max(1, round(seconds / max(once, 1e-6)))
    walls, cpus = [], []
    for turn in range(pairs):
        order = [ours, theirs] if turn % 2 == 0 else [theirs, ours]
        spent = {work: _spent(work, repeats) for work in order}
        walls.append(spent[ours][0] / spent[theirs][0])
        cpus.append(spent[ours][1] / spent[theirs][1])
    low, _, high = statistics.quantiles(cpus, n=4)
    return Ratio(name, statistics.median(walls), statistics.median(cpus), low, high, bar)


def _spent(work: Callable[[], object], repeats: int = 1) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        work()
    return time.perf_counter() - wall, time.process_time() - cpu


def must_equal(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    """Both sides compute the same, or their times mean nothing. Raises AssertionError with the largest
    difference.
    """
    difference = (ours - theirs).abs().max().item()
    assert difference <= tolerance, f"the two sides differ by {difference:.1e}: nothing to compare"


def machine() -> str:
    """What this was measured on, in one line."""
    model = "unknown CPU"
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            model = next(
                (line.split(":")[1].strip() for line in lines if line.startswith("model name")), model
            )
    return f"{model}, {os.cpu_count()} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
