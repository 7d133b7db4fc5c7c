"""How long a class takes to grade, what of it is overhead, how much memory it takes; other graders beside."""

import copy
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
from nbgrader.utils import is_solution

from benchmarks import grading_tools

CHAPTER, CLASS, BESIDE = "01", 500, 8
SECONDS, OVERHEAD, SPEEDUP, MEGABYTES = 60.0, 0.1, 1.7, 768.0  # the bars


def run() -> Iterator[str]:
    """A line for each measurement."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        handed_in = {f"student {number:03}": notebook for number, notebook in enumerate(_class(CLASS))}
        for student, notebook in handed_in.items():
            _put(folder / "class" / student, notebook)
        few = dict(list(handed_in.items())[: CLASS // 5])
        for student, notebook in few.items():
            _put(folder / "few" / student, notebook)
        blank = next((grading_tools.ROOT / "exercises").glob(f"{CHAPTER}_*.ipynb")).read_text(
            encoding="utf-8"
        )
        for student in few:
            _put(folder / "blank" / student, blank)
        _put(folder / "one" / "student", blank)

        seconds, memory = _grade(folder / "class", 2)
        yield f"{CLASS} submissions of chapter {CHAPTER}, 2 workers: {_bar(seconds, 's', SECONDS)}"
        yield f"peak memory of all its processes: {_bar(memory, 'MB', MEGABYTES)}"
        # Turn by turn, so that all feel the same neighbours. What starting takes is no submission's.
        turns = [
            [_grade(folder / part, workers)[0] for part, workers in (("one", 1), ("few", 1), ("few", 2))]
            for _ in range(3)
        ]
        start, alone, both = (sorted(column)[1] for column in zip(*turns, strict=True))
        yield f"starting: {start:.1f} s; {len(few)} submissions then: {alone - start:.1f} s with one worker"
        speedup = (alone - start) / (both - start)
        yield f"two workers are {speedup:.2f} times as fast as one  bar {SPEEDUP} {_met(speedup >= SPEEDUP)}"
        overhead = (_grade(folder / "blank", 1)[0] - start) / (CLASS // 5 - 1)
        yield f"a blank submission, which is all overhead: {_bar(overhead, 's', OVERHEAD)}"

        beside = dict(list(handed_in.items())[:BESIDE])
        ours = (both - start) / len(few)
        for tool, grade in (
            ("nbgrader autograde", grading_tools.nbgrader),
            ("otter run", grading_tools.otter),
        ):
            graded = grade(CHAPTER, beside, folder / tool)
            times = graded.seconds / ours
            yield f"{tool}: {graded}; attn grade with 2 workers: {ours:.2f} s, {times:.0f} times as fast"


# What learners get wrong, as changes of the solutions' text.
SLIPS = {
    "dim=-1": "dim=0",
    "amax(dim=-1, keepdim=True)": "max()",
    "/ query.size(-1) ** 0.5": "",
    "** 0.5": "",
    "~mask": "mask",
    "weights @ value": "weights.transpose(-2, -1) @ value",
    "torch.zeros(": "torch.ones(",
    "mask[:, passage:]": "mask[passage:, :]",
    "- 1)": "+ 1)",
    "20 * n**0.5": "3",
    "key.T @ query": "query.T @ key",
    "generator = torch.Generator()": "return",
    '"wrong": "B"': '"wrong": "D"',
    '"wrong": "C"': '"wrong": "A"',
    "0.25, 0.75": "0.5, 0.5",
    "64 / 8**2": "8",
}


def _class(size: int) -> Iterator[str]:
    """Notebooks of learners: most answers right, a fifth with a slip, a tenth left as it was."""
    draw = random.Random(500)
    stem = next((grading_tools.ROOT / "exercises").glob(f"{CHAPTER}_*.ipynb")).name
    blank, solved = (
        nbformat.read(grading_tools.ROOT / name / stem, as_version=4) for name in ("exercises", "solutions")
    )
    for _ in range(size):
        made = copy.deepcopy(blank)
        for cell, answer in zip(made.cells, solved.cells, strict=True):
            if is_solution(cell) and (kind := draw.random()) > 0.1:
                cell.source = answer.source
                slips = [slip for slip in SLIPS if slip in answer.source]
                if kind < 0.3 and slips:
                    slip = draw.choice(slips)
                    cell.source = answer.source.replace(slip, SLIPS[slip])
        yield nbformat.writes(made)


def _put(folder: Path, notebook: str) -> None:
    folder.mkdir(parents=True)
    (folder / f"{CHAPTER}.ipynb").write_text(notebook, encoding="utf-8")


def _grade(folder: Path, workers: int) -> tuple[float, float]:
    """Seconds that `attn grade` takes for a folder, and the peak memory of its processes in megabytes."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            sys.executable,
            "-m",
            "attn.cli",
            "grade",
            str(folder),
            "--out",
            out,
            "--workers",
            str(workers),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        start = time.perf_counter()
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        peak = [0.0]
        watcher = threading.Thread(target=_watch, args=(running, peak))
        watcher.start()
        if running.wait() != 0:
            raise RuntimeError(f"{' '.join(command)} failed")
        seconds = time.perf_counter() - start
        watcher.join()
        rows = json.loads((Path(out) / "grades.json").read_text(encoding="utf-8"))["rows"]
        assert {row["status"] for row in rows} == {"graded"}
        return seconds, peak[0]


def _watch(running: "subprocess.Popen[bytes]", peak: list[float]) -> None:
    """Keeps the largest sum of the processes' proportional sizes: what forks share is counted once."""
    while running.poll() is None:
        total = 0
        try:
            processes = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
        except psutil.Error:
            return
        for process in processes:
            try:
                lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
            except OSError:  # it has ended
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        peak[0] = max(peak[0], total / 1000)
        time.sleep(0.3)


def _bar(value: float, unit: str, bar: float) -> str:
    return f"{value:.3g} {unit}  bar {bar:g} {_met(value <= bar)}"


def _met(good: bool) -> str:
    return "met" if good else "MISSED"
