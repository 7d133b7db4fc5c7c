"""Training as a reader does it, with `attn train`: how good, for how much CPU time."""

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import torch

from attn.cli import RECIPES
from attn.convert import from_torch
from attn.tasks import load_task
from attn.training import evaluate, fit
from attn.transformer import Transformer
from benchmarks.whole_model import TorchTransformer


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


def multi30k_with_torch() -> Learned:
    """The same recipe, data, batches and seed with `nn.Transformer` in place of our stacks."""
    recipe = RECIPES["multi30k"]
    task = load_task("multi30k")
    torch.manual_seed(recipe.seed)
    ours = Transformer(
        len(task.source),
        len(task.target),
        d_model=recipe.d_model,
        n_heads=recipe.heads,
        n_encoder_layers=recipe.layers,
        n_decoder_layers=recipe.layers,
        d_ff=4 * recipe.d_model,
        norm="pre",
        # torch.nn has one dropout for three places.
        dropout=recipe.dropout,
        attention_dropout=recipe.dropout,
        activation_dropout=recipe.dropout,
    )
    theirs = TorchTransformer(ours)
    start = time.process_time()
    history = fit(
        theirs,
        task,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        label_smoothing=recipe.label_smoothing,
        device="cpu",
    )
    # Its weights come back into our model, which knows how to translate.
    for name in ("embed_source", "embed_target", "to_logits"):
        setattr(ours, name, getattr(theirs, name))
    for name in ("encoder", "decoder"):
        setattr(ours.stacks, name, from_torch(getattr(theirs, name)))
    measures = evaluate(ours, task, task.test)
    cpu = time.process_time() - start
    return Learned(
        "nn.Transformer, same recipe", cpu, {**measures, "validation loss": history.validation[-1][1]}, {}
    )


def _train(task: str, bars: dict[str, tuple[str, float]]) -> Learned:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "attn.cli", "train", task, "--device", "cpu", "--out", folder]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        settings = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=settings)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    scores = re.findall(r"^(\w+) on [\d,]+ test .*: ([\d.]+)", done.stdout, re.M)
    measures = {name: float(value) for name, value in scores}
    if loss := re.search(r"validation loss ([\d.]+)", done.stdout):
        measures["validation loss"] = float(loss[1])
    return Learned(f"attn train {task}", cpu, measures, bars)
