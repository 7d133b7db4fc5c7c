"""The data sets of the course: `load_task` gives one by name, `restore_task` rebuilds one from a checkpoint.

Modules are imported when first used, so that asking for names, or whether data is here, costs nothing.
"""

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from attn.tasks.download import DataUnavailable, available

if TYPE_CHECKING:
    from attn.tasks.translation import TranslationTask

__all__ = ["TASKS", "DataUnavailable", "available", "load_task", "restore_task"]

# task, which is also its module's name -> its class there
TASKS = {"numbers": "NumbersTask", "multi30k": "Multi30kTask"}


def _module(name: str) -> Any:
    if name not in TASKS:
        raise ValueError(f"no task is called {name!r}; the tasks are: {', '.join(TASKS)}")
    return importlib.import_module(f"attn.tasks.{name}")


def load_task(name: str, **options: Any) -> "TranslationTask":
    """The task called `name`, with its data. `options` are those of its module's `load`.

    Raises ValueError for an unknown task or option, `DataUnavailable` when its files cannot be had.
    """
    load = _module(name).load
    try:
        inspect.signature(load).bind(**options)
    except TypeError:
        known = ", ".join(inspect.signature(load).parameters)
        raise ValueError(f"the task {name} takes the options: {known}; given: {', '.join(options)}") from None
    return load(**options)


def restore_task(state: dict[str, Any]) -> "TranslationTask":
    """The task whose `to_dict` gave `state`, without sentences: what translating takes, but no data.

    Raises ValueError when `state` is no saved task.
    """
    if "task" not in state:
        raise ValueError("this is no saved task: the entry 'task' is missing")
    name = state["task"]
    return getattr(_module(name), TASKS[name]).from_dict(state)
