"""Training as a reader does it, with `attn train`: how good, for how much CPU time."""

import os
import re
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass


@dataclass
class Learned:
    """One run of `attn train`: CPU seconds of the whole command, start-up and evaluation included, and its
    measures.
    """

    name: str
    cpu_seconds: float
    measures: dict[str, float]
    bars: dict[str, tuple[str, float]]

    def __str__(self) -> str:
        got = {**self.measures, "CPU seconds": self.cpu_seconds}
        words = []
        for name, value in got.items():
            sign, bar = self.bars.get(name, ("", 0.0))
            met = value >= bar if sign == ">=" else value <= bar
            verdict = f" (bar {sign} {bar:g} {'met' if met else 'MISSED'})" if sign else ""
            words.append(f"{name} {value:.3g}{verdict}")
        return f"{self.name}: " + ", ".join(words)


def numbers() -> Learned:
    """English number words to German characters, on one core."""
    return _train("numbers", {"exact_match": (">=", 98.0), "CPU seconds": ("<=", 60.0)})


def multi30k() -> Learned:
    """English to German on Multi30k, two epochs, on one core. The bars are nn.Transformer's result in a
    trial.
    """
    bars = {"validation loss": ("<=", 2.48), "bleu_lowercase": (">=", 21.0), "CPU seconds": ("<=", 560.0)}
    return _train("multi30k", bars)


def _train(task: str, bars: dict[str, tuple[str, float]]) -> Learned:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "attn.cli", "train", task, "--device", "cpu", "--out", folder]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    scores = re.findall(r"^(\w+) on [\d,]+ test .*: ([\d.]+)", done.stdout, re.M)
    measures = {name: float(value) for name, value in scores}
    if loss := re.search(r"validation loss ([\d.]+)", done.stdout):
        measures["validation loss"] = float(loss[1])
    return Learned(f"attn train {task}", cpu, measures, bars)
