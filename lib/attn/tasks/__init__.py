"""The data sets of the course: `load_task` gives one by name, `restore_task` rebuilds one from a checkpoint.

Modules are imported when first used, so that asking for names, or whether data is here, costs nothing.
"""

import importlib
import inspect
from typing import TYPE_CHECKING, Any, Literal, overload

from attn.tasks.download import DataUnavailable, available

if TYPE_CHECKING:
    from attn.tasks.sentiment import SentimentTask
    from attn.tasks.tagging import TaggingTask
    from attn.tasks.translation import TranslationTask

__all__ = ["LABELLING_TASKS", "TASKS", "DataUnavailable", "available", "load_task", "restore_task"]

# translation task, which is also its module's name -> its class there; `attn train` trains these
TASKS = {"numbers": "NumbersTask", "multi30k": "Multi30kTask"}
# the same for tasks with one label per word or per sentence (`attn.training.fit_labels` trains on these)
LABELLING_TASKS = {
    "tagging": "TaggingTask",
    "atis": "TaggingTask",
    "sentiment": "SentimentTask",
    "reviews": "SentimentTask",
}


def _module(name: str, among: dict[str, str]) -> Any:
    if name not in among:
        raise ValueError(f"no task is called {name!r}; the tasks are: {', '.join(among)}")
    return importlib.import_module(f"attn.tasks.{name}")


@overload
def load_task(name: Literal["numbers", "multi30k"], **options: Any) -> "TranslationTask":
    """A translation task."""


@overload
def load_task(name: Literal["tagging", "atis"], **options: Any) -> "TaggingTask":
    """A task with one label per word."""


@overload
def load_task(name: Literal["sentiment", "reviews"], **options: Any) -> "SentimentTask":
    """A task with one label per sentence."""


def load_task(name: str, **options: Any) -> "TranslationTask | TaggingTask | SentimentTask":
    """The task called `name`, with its data. `options` are those of its module's `load`.

    Raises ValueError for an unknown task or option, `DataUnavailable` when its files cannot be had.
    """
    load = _module(name, TASKS | LABELLING_TASKS).load
    try:
        inspect.signature(load).bind(**options)
    except TypeError:
        known = ", ".join(inspect.signature(load).parameters)
        raise ValueError(f"the task {name} takes the options: {known}; given: {', '.join(options)}") from None
    return load(**options)


def restore_task(state: dict[str, Any]) -> "TranslationTask":
    """The task whose `to_dict` gave `state`, without sentences: what translating takes, but no data.

    Only translation tasks are saved. Raises ValueError when `state` is no saved task.
    """
    if "task" not in state:
        raise ValueError("this is no saved task: the entry 'task' is missing")
    name = state["task"]
    return getattr(_module(name, TASKS), TASKS[name]).from_dict(state)
