"""Grades submissions: side by side, on a cluster, on from where a run stopped. No mark depends on that."""

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from attn.grading.exercise import chapter, chapters
from attn.grading.fence import PACKAGE, Fence, Limits, NoFence
from attn.grading.judge import grade_notebook
from attn.grading.marks import Row, RowStatus
from attn.grading.submissions import Submission, chapter_of, stems

SEED = 1706  # of the hidden inputs, where the instructor gives no other
_CONNECTING = 10  # seconds to wait for a scheduler


@dataclass(frozen=True)
class Settings:
    """What marks depend on, beside the submission.

    Attributes:
      chapter: of all submissions ("": told by their names, or by the answers in them).
      seed: of the hidden inputs.
      fenced: whether student code runs in the fence.
      limits: of each submission.
    """

    chapter: str = ""
    seed: int = SEED
    fenced: bool = True
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class _Work:
    """A notebook to grade."""

    index: int  # among the submissions
    key: str  # of its row in the journal
    chapter: str
    notebook: bytes


def grade(
    submissions: Sequence[Submission],
    settings: Settings | None = None,
    *,
    workers: int = 1,
    scheduler: str = "",
    journal: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, out_of: None,
) -> list[Row]:
    """A row for each submission, in their order.

    Args:
      workers: submissions graded at a time, here.
      scheduler: address of a Dask scheduler, whose workers grade instead.
      journal: file that keeps each row as it is made. Rows that it already holds for the same notebook,
        settings and exercises are taken from it.
      progress: called with (rows done, rows in all).

    Raises NoFence where student code cannot be fenced in as the settings ask, ValueError for an unknown
    chapter, ConnectionError for a scheduler that does not answer.
    """
    settings = settings or Settings()
    if settings.chapter:
        chapter(settings.chapter)
    made: dict[int, Row] = {}
    with _Journal(journal) as kept:

        def done(index: int, row: Row) -> None:
            submission = submissions[index]
            made[index] = replace(row, student=submission.student, file=submission.file)
            progress(len(made), len(submissions))

        def work() -> Iterator[_Work]:
            """What is left to do, read from the disk when it is due."""
            for index, submission in enumerate(submissions):
                number = settings.chapter or _chapter_by_name(submission.file)
                if submission.missing:
                    done(index, _unmarked(number, "missing", submission.problem))
                    continue
                try:
                    notebook = submission.bytes()
                except OSError as error:
                    done(index, _unmarked(number, "unreadable", str(error)))
                    continue
                key = _key(notebook, number, settings)
                if key in kept.rows:
                    done(index, kept.rows[key])
                else:
                    yield _Work(index, key, number, notebook)

        engine = _on_cluster(scheduler, settings) if scheduler else _here(workers, settings)
        with engine as grade_all:
            for task, row in grade_all(work()):
                kept.add(task.key, row)
                done(task.index, row)
    return [made[index] for index in range(len(submissions))]


def _chapter_by_name(file: str) -> str:
    number = chapter_of(file, stems())
    return number if number in chapters() else ""


def _unmarked(number: str, status: RowStatus, why: str) -> Row:
    out_of = sum(exercise.points for exercise in chapter(number)) if number else 0
    return Row("", "", number, status, 0, out_of, note=why)


# Two engines. Each gives a function that grades all tasks, and yields each with its row as it is ready.

_GradeAll = Callable[[Iterator[_Work]], Iterator[tuple[_Work, Row]]]


def _grade_one(fence: Fence, task: _Work, seed: int) -> Row:
    return grade_notebook(fence, task.notebook, student="", file="", chapter_number=task.chapter, secret=seed)


@contextlib.contextmanager
def _here(workers: int, settings: Settings) -> Iterator[_GradeAll]:
    """Threads: the work is in the processes that they wait for, all forked from one."""
    with Fence(fenced=settings.fenced, limits=settings.limits) as fence:
        pool = ThreadPoolExecutor(workers)

        def grade_all(tasks: Iterator[_Work]) -> Iterator[tuple[_Work, Row]]:
            def submit(task: _Work) -> Future[Row]:
                return pool.submit(_grade_one, fence, task, settings.seed)

            yield from _as_ready(tasks, submit, 2 * workers)

        try:
            yield grade_all
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            fence.stop()  # what is being graded when a run is stopped ends here
            pool.shutdown()


def _as_ready(
    tasks: Iterator[_Work], submit: Callable[[_Work], Future[Row]], at_once: int
) -> Iterator[tuple[_Work, Row]]:
    """Keeps `at_once` tasks under way."""
    running: dict[Future[Row], _Work] = {}
    while True:
        while len(running) < at_once and (task := next(tasks, None)) is not None:
            running[submit(task)] = task
        if not running:
            return
        ready, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in ready:
            yield running.pop(future), future.result()


@contextlib.contextmanager
def _on_cluster(scheduler: str, settings: Settings) -> Iterator[_GradeAll]:
    """The workers of a Dask cluster, each with a fence of its own."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise ImportError("--scheduler needs Dask: pip install 'dask[distributed]'") from None
    try:
        client = Client(scheduler, timeout=_CONNECTING, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ConnectionError(f"no Dask scheduler answers at {scheduler} ({type(error).__name__})") from None
    with client, client.as_current():
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise ConnectionError(f"the Dask scheduler at {scheduler} has no workers")

        def grade_all(tasks: Iterator[_Work]) -> Iterator[tuple[_Work, Row]]:
            at_once = 4 * sum(client.nthreads().values())
            running: dict[Any, _Work] = {}
            ready = as_completed()
            while True:
                while len(running) < at_once and (task := next(tasks, None)) is not None:
                    # pure=False: equal notebooks of two students are two tasks.
                    future = client.submit(_grade_there, task, settings, pure=False)
                    running[future.key] = task
                    ready.add(future)
                if not running:
                    return
                future = next(ready)
                yield running.pop(future.key), Row.from_json(future.result())

        yield grade_all


@functools.cache
def _fence_of_this_worker(settings: Settings) -> Fence:
    """Started once in each worker process; it ends with it."""
    return Fence(fenced=settings.fenced, limits=settings.limits).__enter__()


def _grade_there(task: _Work, settings: Settings) -> dict[str, Any]:
    return _grade_one(_fence_of_this_worker(settings), task, settings.seed).as_json()


# The journal


def _key(notebook: bytes, number: str, settings: Settings) -> str:
    """Names the row of a notebook: equal only where everything that the row depends on is."""
    about = json.dumps([number, astuple(settings)])
    return hashlib.sha256(_version().encode() + about.encode() + b"\0" + notebook).hexdigest()


@functools.cache
def _version() -> str:
    """Changes with every change of the grader, the exercises, or the library that answers may use."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class _Journal:
    """Rows by key, each kept in the file as soon as it is made. Without a file it keeps nothing."""

    def __init__(self, path: Path | None):
        self.path, self.rows = path, dict[str, Row]()
        self._file: IO[str] | None = None

    def __enter__(self) -> "_Journal":
        if self.path is not None:
            if self.path.exists():
                for line in self.path.read_text("utf-8", "replace").splitlines():
                    # The last line of a run that was killed may be half a line.
                    with contextlib.suppress(ValueError, KeyError, TypeError):
                        entry = json.loads(line)
                        self.rows[entry["key"]] = Row.from_json(entry["row"])
            self._file = self.path.open("a", encoding="utf-8")
            self._file.write("\n")
        return self

    def add(self, key: str, row: Row) -> None:
        """Keep a row."""
        if self._file is not None:
            self._file.write(json.dumps({"key": key, "row": row.as_json()}) + "\n")
            self._file.flush()

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()


__all__ = ["SEED", "NoFence", "Settings", "grade"]
