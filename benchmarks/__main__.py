"""python -m benchmarks [NAME ...] [--threads 1 2]: everything, or the measurements named."""

import argparse
import os
from collections.abc import Callable, Iterable

# Threads that spin while they wait cost more than they give on a shared machine. Set before torch starts any.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from benchmarks import attention, crossing, grading, learning, whole_model
from benchmarks.pairs import machine


def memory() -> Iterable[object]:
    """Peak memory of one forward pass against length, with and without weights."""
    for need_weights, lengths in ((False, (4096, 8192, 16384)), (True, (2048, 4096, 8192))):
        added = attention.memory_growth(lengths, need_weights=need_weights)
        words = ", ".join(f"{megabytes:.0f} MB at {n}" for n, megabytes in added.items())
        yield f"memory {'with' if need_weights else 'without'} weights: {words}"


def exponent() -> Iterable[object]:
    """How the time of cached decoding grows with length."""
    p = whole_model.decoding_exponent()
    yield f"cached decoding: time grows as length^{p:.2f}  bar 1.1 {'met' if p <= 1.1 else 'MISSED'}"


# Those in the first group are run once per number of threads, the others once.
BY_THREADS: dict[str, Callable[[], Iterable[object]]] = {
    "attention": attention.run,
    "step": whole_model.training_step,
    "decoding": whole_model.decoding,
}
ONCE: dict[str, Callable[[], Iterable[object]]] = {
    "exponent": exponent,
    "memory": memory,
    "crossing": crossing.run,
    "grading": grading.run,
    "numbers": lambda: [learning.numbers()],
    "multi30k": lambda: [learning.multi30k()],
    "multi30k-torch": lambda: [learning.multi30k_with_torch()],
}


def main() -> None:
    """Print each result as it comes."""
    everything = [*BY_THREADS, *ONCE]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(everything)} (default: all)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    options = parser.parse_args()
    if unknown := set(options.names) - set(everything):
        parser.error(f"no measurement is called {', '.join(sorted(unknown))}")
    wanted = options.names or everything
    print(machine(), flush=True)
    for threads in options.threads:
        _run([name for name in BY_THREADS if name in wanted], BY_THREADS, threads)
    _run([name for name in ONCE if name in wanted], ONCE, 1)


def _run(names: list[str], measurements: dict[str, Callable[[], Iterable[object]]], threads: int) -> None:
    torch.set_num_threads(threads)
    for name in names:
        print(f"\n{name}, {threads} thread(s)", flush=True)
        for result in measurements[name]():
            print(result, flush=True)


if __name__ == "__main__":
    main()
