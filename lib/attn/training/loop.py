"""The training loop: batch, loss, gradient, step; with everything needed to stop and go on."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from attn.tasks.translation import Batch, TranslationTask, batches
from attn.training.checkpoint import Checkpoint, CheckpointError, load, save
from attn.training.checks import unchecked
from attn.training.device import Precision, autocast
from attn.training.distributed import Group, group
from attn.training.evaluation import mean_loss
from attn.training.interrupt import StopBetweenSteps
from attn.training.loss import token_loss
from attn.training.schedule import warmup_cosine
from attn.training.translator import architecture


class TrainingDiverged(ValueError):
    """The loss or the gradient became infinite or not a number."""


@dataclass
class History:
    """What happened in each step.

    steps: 1, 2, 3 ...   losses: nats per real token, with label smoothing, of that step's batch
    learning_rates: of that step   validation: (step, nats per real token without label smoothing)
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class _Settings:
    """What must be the same for a resumed run to go on as if it had never stopped."""

    batch_size: int
    learning_rate: float
    label_smoothing: float
    weight_decay: float
    clip: float
    precision: Precision
    seed: int


def fit(
    model: nn.Module,
    task: TranslationTask,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    schedule: Callable[[int], float] | None = None,
    label_smoothing: float = 0.1,
    weight_decay: float = 0.01,
    clip: float = 1.0,
    device: str | torch.device | None = None,
    precision: Precision = "fp32",
    seed: int = 0,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 200,
    resume: bool = False,
    validate_every: int | None = None,
    progress: bool = True,
) -> History:
    """Train `model` on `task.train` with AdamW (Loshchilov and Hutter 2019) and return what happened.

    model(source, target_in) must give logits (batch, length, vocabulary). It is trained in place, moved to
    `device` (see `pick_device`), and left in eval mode, ready to translate.

    steps, epochs: how long; give exactly one.
    schedule: step (from 1) -> factor of `learning_rate`; without one `warmup_cosine`, a tenth of the steps
        upwards. For the paper's own: learning_rate=1, schedule=partial(warmup_inverse_sqrt, d_model=512,
        warmup=4000).
    clip: a gradient longer than this (Euclidean norm over all weights) is shortened to it.
    seed: of the order of the batches and of dropout; initial weights are the caller's. The global generators
        are left as they were.
    weight_decay: AdamW's; 0 gives the paper's Adam.
    checkpoint: a file, written every `checkpoint_every` steps, at the end, and on Ctrl-C or SIGTERM (which
        then raise KeyboardInterrupt). With resume=True training goes on from it, and the loss curve is
        exactly what it would have been without the stop; only `steps` may be another than before.
    validate_every: steps between two losses on `task.validation`; one is always taken at the end.

    Under torchrun each process takes its share of every batch (`attn.training.distributed`).

    Raises ValueError for settings that make no sense, FileNotFoundError or CheckpointError where there is
    nothing to resume, TrainingDiverged where the loss or the gradient stops being finite (the model then has
    the weights of the step before).
    """
    settings = _Settings(batch_size, learning_rate, label_smoothing, weight_decay, clip, precision, seed)
    _check(settings, task, steps, epochs, checkpoint_every, validate_every, resume and checkpoint is None)
    steps = steps or (epochs or 0) * ceil(len(task.train) / batch_size)
    schedule = schedule or partial(warmup_cosine, total=steps, warmup=max(1, steps // 10))
    with (
        group(device) as workers,
        _own_random_numbers(workers),
        StopBetweenSteps(patient=workers.size > 1) as stop,
    ):
        run = _Run(model.to(workers.device), task, settings, workers, steps)
        if resume and checkpoint is not None:
            run.go_on_from(load(checkpoint))
        first, shown = run.step, progress and workers.is_first
        with tqdm(total=steps, initial=run.step, unit="step", leave=False, disable=not shown) as bar:
            for batch in run.batches():
                with unchecked() if run.step > first else nullcontext():
                    stopping = run.train_on(batch, learning_rate * schedule(run.step + 1), stop.requested)
                bar.set_postfix(loss=f"{run.history.losses[-1]:.3f}", refresh=False)
                bar.update()
                last = run.step == steps
                if task.validation and (last or (validate_every and run.step % validate_every == 0)):
                    with unchecked():
                        run.validate()
                due = last or stopping or run.step % checkpoint_every == 0
                if checkpoint is not None and due and workers.is_first:
                    save(checkpoint, run.checkpoint())
                if stopping:
                    break
        model.eval()
        if stop.requested:
            raise KeyboardInterrupt(f"stopped after step {run.step} of {steps}")
    return run.history


class _Run:
    """The state of a training run: model, optimiser, position in the data, history."""

    def __init__(
        self, model: nn.Module, task: TranslationTask, settings: _Settings, workers: Group, steps: int
    ) -> None:
        self.model = model
        self.parallel = workers.wrap(model)
        self.task = task
        self.settings = settings
        self.workers = workers
        self.steps = steps  # of the whole run
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=settings.learning_rate,
            betas=(0.9, 0.98),  # the paper's, section 5.3
            eps=1e-9,
            weight_decay=settings.weight_decay,
            # One kernel for all weights: a third of the default's time on the CPU as well.
            fused=workers.device.type in ("cpu", "cuda"),
        )
        self.history = History()
        self.epoch = 0
        self.position = 0  # batches of this epoch that are done

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.history.steps)

    def batches(self) -> Iterator[Batch]:
        """The batches from where the run stands to its last step; every epoch has its own order."""
        while self.step < self.steps:
            generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.epoch)
            epoch = batches(self.task, self.task.train, self.settings.batch_size, generator=generator)
            while self.position < len(epoch) and self.step < self.steps:
                batch = epoch[self.position]
                self.position += 1
                yield batch
            if self.position >= len(epoch):
                self.epoch, self.position = self.epoch + 1, 0

    def train_on(self, batch: Batch, learning_rate: float, stop: bool) -> bool:
        """One step. Returns whether any of the processes was asked to stop."""
        step = self.step + 1
        # Dropout depends on seed and step alone: a resumed run needs no generator's state, on any device.
        torch.manual_seed((self.settings.seed * 1_000_003 + step) * self.workers.size + self.workers.rank)
        self.parallel.train()
        rows, weight = self.workers.rows(len(batch.source))
        mine = Batch(batch.source[rows], batch.target[rows]).to(self.workers.device)
        with autocast(self.workers.device, self.settings.precision):
            logits = self.parallel(mine.source, mine.target_in)
        loss, _ = token_loss(logits, mine.target_out, label_smoothing=self.settings.label_smoothing)
        loss = loss * (weight / batch.n_tokens)
        whole_loss, stops = self.workers.sum(loss, float(stop)).tolist()
        self._must_be_finite("loss", whole_loss, step, learning_rate)
        self.optimizer.zero_grad()
        # Processes average their gradients; our losses are shares of one mean, so the sum is what we want.
        (loss * self.workers.size).backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self._must_be_finite("gradient", norm.item(), step, learning_rate)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = learning_rate
        self.optimizer.step()
        self.history.steps.append(step)
        self.history.losses.append(whole_loss)
        self.history.learning_rates.append(learning_rate)
        return stops > 0

    def validate(self) -> None:
        """Add the loss on the validation sentences to the history."""
        size = self.settings.batch_size
        loss = mean_loss(self.model, self.task, self.task.validation, batch_size=size, group=self.workers)
        self.history.validation.append((self.step, loss))

    def checkpoint(self) -> Checkpoint:
        """Everything that `go_on_from` needs, and what `attn translate` needs to rebuild the model."""
        optimizer = {
            f"{name}/{quantity}": tensor
            for name, parameter in self.model.named_parameters()
            for quantity, tensor in self.optimizer.state[parameter].items()
        }
        about: dict[str, Any] = {
            "architecture": architecture(self.model),
            "model": getattr(self.model, "config", None),
            "task": self.task.to_dict(),
            "settings": asdict(self.settings),
            "steps": self.steps,
            "epoch": self.epoch,
            "position": self.position,
            "history": asdict(self.history),
        }
        return Checkpoint(dict(self.model.state_dict()), optimizer, about)

    def go_on_from(self, checkpoint: Checkpoint) -> None:
        """Take over the state of the run that wrote `checkpoint`.

        Raises CheckpointError where it is of another model, ValueError where its settings are others.
        """
        about = checkpoint.about
        try:
            same_task = about["task"] == json.loads(json.dumps(self.task.to_dict()))
            before, curves = about["settings"], dict(about["history"])
            curves["validation"] = [(step, loss) for step, loss in curves["validation"]]  # JSON has no tuples
            history = History(**curves)
            self.epoch, self.position = about["epoch"], about["position"]
            self.model.load_state_dict(checkpoint.weights)
            state = {
                number: {
                    what: checkpoint.optimizer[f"{name}/{what}"] for what in ("step", "exp_avg", "exp_avg_sq")
                }
                for number, (name, _) in enumerate(self.model.named_parameters())
            }
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the checkpoint is of another model or run: {error}") from error
        if not same_task:
            raise CheckpointError(f"the checkpoint is of another task than this {self.task.name}")
        for name, now in asdict(self.settings).items():
            if before.get(name) != now:
                raise ValueError(
                    f"the run to resume had {name}={before.get(name)}, this one has {name}={now}: give the "
                    f"same, or start a new run"
                )
        self.history = history

    def _must_be_finite(self, what: str, value: float, step: int, learning_rate: float) -> None:
        if not isfinite(value):
            raise TrainingDiverged(
                f"the {what} of step {step} is {value} (learning rate {learning_rate:.2g}): try a lower "
                f"learning rate, a longer warm-up or fp32. The model has the weights of the step before"
            )


@contextmanager
def _own_random_numbers(workers: Group) -> Iterator[None]:
    """Random numbers drawn inside leave no trace outside."""
    devices = [workers.device] if workers.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        yield


def _check(
    settings: _Settings,
    task: TranslationTask,
    steps: int | None,
    epochs: int | None,
    checkpoint_every: int,
    validate_every: int | None,
    resume_from_nothing: bool,
) -> None:
    if (steps is None) == (epochs is None):
        raise ValueError("say how long to train: give steps or epochs, one of the two")
    whole = {"steps": steps, "epochs": epochs, "batch_size": settings.batch_size}
    whole |= {"checkpoint_every": checkpoint_every, "validate_every": validate_every}
    for name, number in whole.items():
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, not {number}")
    for name, size in (("learning_rate", settings.learning_rate), ("clip", settings.clip)):
        if not size > 0:
            raise ValueError(f"{name} must be more than 0, not {size}")
    if not task.train:
        raise ValueError(f"task {task.name} has no training pairs")
    if resume_from_nothing:
        raise ValueError("resume=True needs checkpoint=, the file to go on from")
