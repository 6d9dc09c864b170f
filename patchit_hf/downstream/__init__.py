"""Downstream tasks. Each file in this folder is a task, named after the file."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

from patchit_hf.common.errors import InputError, check_options, did_you_mean
from patchit_hf.common.public import lazily

if TYPE_CHECKING:
    import datasets

    from patchit_hf.downstream.augment import Augmentation as Augmentation
    from patchit_hf.downstream.augment import Geometry as Geometry
    from patchit_hf.downstream.base import DownstreamTask as DownstreamTask
    from patchit_hf.downstream.base import Report as Report
    from patchit_hf.downstream.results import ActionResult as ActionResult
    from patchit_hf.downstream.results import AttributesResult as AttributesResult
    from patchit_hf.downstream.results import Keypoint as Keypoint
    from patchit_hf.downstream.results import PoseResult as PoseResult
    from patchit_hf.downstream.results import ReidResult as ReidResult
    from patchit_hf.downstream.results import Result as Result

_PUBLIC = {
    "ActionResult": "patchit_hf.downstream.results",
    "AttributesResult": "patchit_hf.downstream.results",
    "Augmentation": "patchit_hf.downstream.augment",
    "DownstreamTask": "patchit_hf.downstream.base",
    "Geometry": "patchit_hf.downstream.augment",
    "Keypoint": "patchit_hf.downstream.results",
    "PoseResult": "patchit_hf.downstream.results",
    "ReidResult": "patchit_hf.downstream.results",
    "Report": "patchit_hf.downstream.base",
    "Result": "patchit_hf.downstream.results",
}
_load, _ = lazily(__name__, _PUBLIC)

_SHARED = {
    "attribute_columns",
    "augment",
    "base",
    "columns",
    "heads",
    "identities",
    "joints",
    "keypoints",
    "labels",
    "pose_scores",
    "results",
    "windows",
}  # what tasks are made of


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    return _load(name)


def __dir__() -> list[str]:
    return sorted([*_PUBLIC, "create_downstream", "list_downstream", "task_class"])


def list_downstream() -> list[str]:
    """Return the names that ``--task`` of finetuning accepts.

    Example:
        >>> list_downstream()
        ['action', 'attributes', 'pose', 'reid']
    """
    return [m.name for m in pkgutil.iter_modules(__path__) if m.name not in _SHARED]


def task_class(name: str) -> type[DownstreamTask]:
    """Return the class of a task.

    Raises:
        InputError: for an unknown task.

    Example:
        >>> task_class("pose").__module__
        'patchit_hf.downstream.pose'
    """
    if name not in list_downstream():
        known = list_downstream()
        raise InputError(
            f"--task {name!r}: unknown task (known: {', '.join(known)}){did_you_mean(name, known)}"
        )
    found: type[DownstreamTask] = import_module(f"{__name__}.{name}").Task
    return found


def create_downstream(name: str, dataset: datasets.Dataset, **options: Any) -> DownstreamTask:
    """Build a task for a data set, from which its label columns and classes are read.

    Args:
        name: the name of a task, such as ``attributes``.
        dataset: the training split, a ``datasets.Dataset``.
        **options: the options of the task.

    Raises:
        InputError: for an unknown task or option, or columns that the task cannot use.

    Example:
        >>> import datasets
        >>> rows = datasets.Dataset.from_dict({"hat": [True, False], "bag": [False, True]})
        >>> create_downstream("attributes", rows).label_names
        ['hat', 'bag']
    """
    from patchit_hf.downstream.base import keyword_only

    found = task_class(name)
    check_options(name, options, keyword_only(found.from_dataset))
    return found.from_dataset(dataset, **options)
