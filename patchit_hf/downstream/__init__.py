"""Downstream tasks. A file here is a task; its name is the task's name."""

from __future__ import annotations

import difflib
import inspect
import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

from patchit_hf.common.errors import InputError

if TYPE_CHECKING:
    from patchit_hf.downstream.base import DownstreamTask

_SHARED = {"augment", "base", "columns", "heads", "keypoints", "windows"}  # what tasks are made of


def list_downstream() -> list[str]:
    """Return the names that ``--task`` of finetuning takes."""
    return [m.name for m in pkgutil.iter_modules(__path__) if m.name not in _SHARED]


def task_class(name: str) -> type[DownstreamTask]:
    """Return the class of a task.

    Raises:
        InputError: for an unknown task.
    """
    if name not in list_downstream():
        raise InputError(f"--task {name!r}: unknown task (known: {', '.join(list_downstream())})")
    found: type[DownstreamTask] = import_module(f"{__name__}.{name}").Task
    return found


def create_downstream(name: str, dataset: Any, **options: Any) -> DownstreamTask:
    """Build a task for a data set: its label columns, classes and the like are read from it.

    Args:
        name: a task's file name, such as ``attributes``.
        dataset: the training split, a ``datasets.Dataset``.
        **options: the task's options.

    Raises:
        InputError: for an unknown task or option, or columns that the task cannot use.
    """
    found = task_class(name)
    parameters = inspect.signature(found.from_dataset).parameters
    allowed = [p.name for p in parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for key in options:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(
                f"--task-kwargs: task {name!r} has no option {key!r}{hint} (options: "
                f"{', '.join(allowed)})"
            )
    return found.from_dataset(dataset, **options)
