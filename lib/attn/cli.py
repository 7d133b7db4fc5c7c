"""The command `attn`: doctor, train, translate, grade, progress.

torch is imported by the commands that compute, so that `attn doctor` and `attn --help` work without it.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf
from pathlib import Path
from typing import Any, NoReturn

DEFAULT_TASK = "numbers"
FILE_NAME = "checkpoint.safetensors"


@dataclass(frozen=True)
class Recipe:
    """What `attn train` does where no option says otherwise. d_ff is 4 d_model, layers are pre-norm."""

    d_model: int
    layers: int
    heads: int
    dropout: float
    batch_size: int
    learning_rate: float
    label_smoothing: float
    example: str
    steps: int | None = None
    epochs: int | None = None
    precision: str = "fp32"
    seed: int = 0


RECIPES = {
    "numbers": Recipe(
        d_model=128,
        layers=2,
        heads=4,
        dropout=0.0,
        batch_size=64,
        learning_rate=2e-3,
        label_smoothing=0.0,
        example="seven hundred and forty-two",
        steps=400,
    ),
    # For the two epochs that a CPU has time for. In trials of half an epoch each of these lowered the
    # validation loss: no dropout, no label smoothing, small batches, separate embeddings.
    "multi30k": Recipe(
        d_model=256,
        layers=3,
        heads=4,
        dropout=0.0,
        batch_size=16,
        learning_rate=1e-3,
        label_smoothing=0.0,
        example="A man is riding a horse.",
        epochs=2,
    ),
}

# Options of `attn train` that are arguments of `fit` too.
SETTINGS = ("batch_size", "learning_rate", "label_smoothing", "precision", "seed")
# Options that a resumed run takes from its checkpoint.
_FIXED = (*SETTINGS, "language", "d_model", "layers", "heads", "dropout")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 1 `doctor` found a break, 2 bad input, 130 stopped."""
    # Idle threads sleep rather than spin: on a busy machine that is much faster. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        options = _parser().parse_args(arguments)
        return options.command(options)
    except SystemExit as request:  # argparse's way to end, after --help and after an error
        return request.code if isinstance(request.code, int) else 2
    except (ValueError, OSError, ImportError) as error:
        return _complain(error)
    except KeyboardInterrupt as interrupt:
        print(f"attn: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return 130


def doctor(_: argparse.Namespace) -> int:
    """Print the findings; 1 where something essential is broken."""
    from attn.doctor import examine

    broken = False
    for finding in examine():
        print(finding, flush=True)
        broken |= finding.verdict == "FAIL"
    return int(broken)


def grade(options: argparse.Namespace) -> int:
    """Grade submissions, test the exercises, or export them."""
    from attn.grading import command

    return command.run(options)


def progress(options: argparse.Namespace) -> int:
    """Print how far a learner's exercises are; or what the course proves, 1 where a concept is left out."""
    from attn.progress import find_course, standings, table

    course = find_course(Path(options.course))
    if not options.concepts:
        from attn.grading import command

        return command.own(course)
    rows = standings(course)
    print(table(course, rows))
    return int(any(row.lesson is not None and not row.done for row in rows))


def train(options: argparse.Namespace) -> int:
    """Train a model, keep it in a folder, say how good it is and what to type next."""
    from attn.tasks import TASKS, load_task

    if options.task not in RECIPES:
        raise ValueError(f"no task is called {options.task!r}; the tasks are: {', '.join(TASKS)}")
    recipe = RECIPES[options.task]
    path = _writable(Path(options.out or f"runs/{options.task}")) / FILE_NAME

    import torch

    from attn.training import evaluate, fit
    from attn.training.checkpoint import load
    from attn.training.distributed import launched
    from attn.training.translator import rebuild
    from attn.transformer import Transformer

    rank, processes = launched()
    say: Callable[[str], None] = print if rank == 0 else lambda _: None
    if options.resume:
        before = _before(options, path, load(path).about)
        settings, steps, epochs = before["settings"], options.steps or before["steps"], None
        task = load_task(options.task, **before["task_options"])
        model = rebuild(before)
    else:
        settings = {name: _or(getattr(options, name), getattr(recipe, name)) for name in SETTINGS}
        steps, epochs = options.steps, options.epochs
        if steps is None and epochs is None:
            steps, epochs = recipe.steps, recipe.epochs
        language = {"language": options.language} if options.language else {}
        task = load_task(options.task, **language)
        torch.manual_seed(settings["seed"])
        model = Transformer(len(task.source), len(task.target), **_architecture(options, recipe))
        if path.exists():
            say(f"{path} is there already: the new run will replace it (--resume would go on with it)")
    say(task.describe())
    say(f"{sum(p.numel() for p in model.parameters()):,} weights, {processes} process(es)")
    started = time.monotonic()
    try:
        history = fit(
            model,
            task,
            steps=steps,
            epochs=epochs,
            **settings,
            device=options.device,
            checkpoint=path,
            resume=options.resume,
            validate_every=ceil(len(task.train) / settings["batch_size"]),  # each epoch
        )
    except KeyboardInterrupt as interrupt:
        again = f"; go on with: attn train {options.task} --resume{_at(options)}" if path.exists() else ""
        raise KeyboardInterrupt(f"{str(interrupt) or 'stopped'}{again}") from None
    if rank == 0:
        step, loss = history.validation[-1]
        say(f"{step} steps in {time.monotonic() - started:.0f} s, validation loss {loss:.3f} nats per token")
        scores = evaluate(model, task, task.test)
        for name, score in scores.items():
            say(f"{name} on {len(task.test):,} test sentences: {score:.1f}")
        source = "" if options.task == DEFAULT_TASK and not options.out else f" --from {path.parent}"
        say(f"checkpoint: {path}")
        say(f'next: attn translate "{recipe.example}"{source}')
    return 0


def translate(options: argparse.Namespace) -> int:
    """Print the translation of each sentence given, or of each line that comes in."""
    path = Path(options.folder)
    path = path / FILE_NAME if path.is_dir() or not path.exists() else path
    if not path.exists():
        name = path.parent.name if path.parent.name in RECIPES else DEFAULT_TASK
        out = "" if path.parent == Path("runs", name) else f" --out {path.parent}"
        raise FileNotFoundError(f"there is no trained model in {path.parent}; first: attn train {name}{out}")

    from attn.training import load_translator, pick_device
    from attn.training import translate as translations

    model, task = load_translator(path)
    model.to(pick_device(options.device))
    code = 0
    for sentence in options.sentences or map(str.strip, sys.stdin):
        # An empty line, and one that cannot be translated, give an empty line: lines keep corresponding.
        if not sentence:
            print(flush=True)
            continue
        try:
            prepared = task.prepare(sentence)
        except ValueError as error:
            print(flush=True)
            code = _complain(error)
            continue
        [answer] = translations(model, task, [prepared], beam=options.beam)
        print(answer, flush=True)
        if task.name == "numbers":
            print(_verdict(prepared, answer, task.options["language"]), file=sys.stderr)
    return code


def _complain(error: Exception) -> int:
    """One line on stderr, and the exit code for bad input."""
    print(f"attn: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def _verdict(sentence: str, answer: str, language: str) -> str:
    """Whether the translation of a number is right, which for numbers is known."""
    from attn.tasks import numbers

    right = numbers.answer(numbers.read(sentence), language)
    return "(exactly right)" if answer == right else f"(not right: it is {right})"


def _architecture(options: argparse.Namespace, recipe: Recipe) -> dict[str, Any]:
    layers, d_model = _or(options.layers, recipe.layers), _or(options.d_model, recipe.d_model)
    return {
        "d_model": d_model,
        "n_heads": _or(options.heads, recipe.heads),
        "n_encoder_layers": layers,
        "n_decoder_layers": layers,
        "d_ff": 4 * d_model,
        "dropout": _or(options.dropout, recipe.dropout),
        "norm": "pre",
    }


def _before(options: argparse.Namespace, path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """What the checkpoint says of the run that --resume goes on with."""
    from attn.training import CheckpointError

    given = [f"--{name.replace('_', '-')}" for name in _FIXED if getattr(options, name) is not None]
    if given:
        raise ValueError(f"--resume takes these from the checkpoint: leave out {', '.join(given)}")
    if options.epochs is not None:
        raise ValueError("with --resume say how long in --steps, counted from the first step of all")
    try:
        before = {name: about[name] for name in ("model", "settings", "steps")}
        before["architecture"] = about.get("architecture", "Transformer")
        task, before["task_options"] = about["task"]["task"], about["task"]["options"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} does not say how it was trained ({error}): train anew") from None
    if task != options.task:
        raise ValueError(f"{path} is of the task {task}: attn train {task} --resume --out {path.parent}")
    return before


def _writable(folder: Path) -> Path:
    """`folder`, made where it is missing; found out now rather than after the training."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        why = error.strerror
        raise ValueError(f"cannot write to the folder {folder} ({why}): choose another with --out") from None


def _at(options: argparse.Namespace) -> str:
    return f" --out {options.out}" if options.out else ""


def _or(given: Any, otherwise: Any) -> Any:
    return otherwise if given is None else given


class _OneLineErrors(argparse.ArgumentParser):
    """Says in one line what is wrong; argparse would print the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help explains)\n")


def _number(kind: type, least: float, most: float = inf, *, above: bool = False) -> Callable[[str], Any]:
    """An argparse type: a number of `kind` from `least` (or `above` it) to less than `most`."""

    def parse(text: str) -> Any:
        try:
            number = kind(text)
        except ValueError:
            number = None
        if number is None or not least <= number < most or (above and number == least):
            what = "a whole number" if kind is int else "a number"
            lower = f"more than {least}" if above else f"at least {least}"
            upper = "" if most == inf else f" and less than {most}"
            raise argparse.ArgumentTypeError(f"must be {what}, {lower}{upper}; given {text!r}")
        return number

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineErrors(prog="attn", description="The course on attention: check, train, translate.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("doctor", help="what of this machine the course can use")
    command.set_defaults(command=doctor)

    whole, rate = _number(int, 1), _number(float, 0, 1)
    command = commands.add_parser("grade", help="grade notebooks: a learner's, or a class's")
    command.set_defaults(command=grade)
    command.add_argument("paths", nargs="*", metavar="PATH", help="notebook, folder of any layout, or zip")
    command.add_argument("--out", metavar="DIR", default="grades", help="of the reports (default: grades)")
    command.add_argument(
        "--chapter", metavar="NN", help="of all notebooks (default: told by name or answers)"
    )
    command.add_argument("--roster", metavar="CSV", help="who is in the class: a Canvas gradebook, say")
    command.add_argument("--workers", type=_number(int, 1, 257), default=1, help="graded at a time, here")
    command.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that grades instead")
    command.add_argument("--unfenced", action="store_true", help="no fence: only for what you trust")
    command.add_argument("--seed", type=_number(int, 0), help="of the hidden inputs")
    command.add_argument(
        "--seconds", type=_number(float, 0.1, 3600), default=5.0, help="for one call of an answer (5)"
    )
    command.add_argument("--self-test", action="store_true", help="test the exercises themselves instead")
    command.add_argument("--export", nargs=2, metavar=("TOOL", "DIR"), help="for gradescope or otter instead")

    command = commands.add_parser("progress", help="how far your exercises are, and which one is next")
    command.set_defaults(command=progress)
    command.add_argument("--concepts", action="store_true", help="instead: what the lessons teach and prove")
    command.add_argument("--course", metavar="DIR", default=".", help="the clone (default: the one here)")

    command = commands.add_parser(
        "train",
        help="train a translator",
        epilog="Several processes: torchrun --nproc-per-node 2 -m attn.cli train numbers",
    )
    command.set_defaults(command=train)
    command.add_argument("task", metavar="TASK", help=" or ".join(RECIPES))
    length = command.add_mutually_exclusive_group()
    length.add_argument("--steps", type=whole, help="batches to learn from")
    length.add_argument("--epochs", type=whole, help="passes over all sentences")
    command.add_argument("--out", metavar="DIR", help="folder of the checkpoint (default: runs/TASK)")
    command.add_argument("--resume", action="store_true", help="go on with the run in DIR")
    command.add_argument("--language", help="target language: de, fr ...")
    command.add_argument("--batch-size", type=whole, help="sentences")
    command.add_argument("--learning-rate", "--lr", type=_number(float, 0, above=True), help="at its peak")
    command.add_argument("--label-smoothing", type=rate)
    command.add_argument("--d-model", type=whole, help="width; the feed-forward layers are 4 times as wide")
    command.add_argument("--layers", type=whole, help="in the encoder, and as many in the decoder")
    command.add_argument("--heads", type=whole)
    command.add_argument("--dropout", type=rate, help="0.1 where there are more than a few epochs")
    command.add_argument("--device", help="cpu, cuda or mps (default: the fastest here)")
    command.add_argument("--precision", choices=("fp32", "bf16"))
    command.add_argument("--seed", type=_number(int, 0))

    command = commands.add_parser("translate", help="translate sentences, or the lines of the standard input")
    command.set_defaults(command=translate)
    command.add_argument("sentences", nargs="*", metavar="SENTENCE")
    command.add_argument(
        "--from", dest="folder", metavar="DIR", default=f"runs/{DEFAULT_TASK}", help="where the model is"
    )
    command.add_argument("--beam", type=whole, default=1, help="hypotheses kept (1: greedy)")
    command.add_argument("--device", default="cpu", help="cpu (default), cuda or mps")
    return parser


if __name__ == "__main__":
    sys.exit(main())
