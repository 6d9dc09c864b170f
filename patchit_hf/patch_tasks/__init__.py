"""Patch tasks. Each file in this folder is a task, named after the file."""

from __future__ import annotations

import ast
import pkgutil
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchit_hf.common.errors import InputError, check_options, did_you_mean

if TYPE_CHECKING:
    from patchit_hf.patch_tasks.base import PatchTask

_SHARED = {  # what tasks are made of
    "base", "contrast", "grid", "groups", "heads", "identity", "identity_task", "lattice",
    "options", "transform", "windows",
}  # fmt: skip


def list_tasks() -> list[str]:
    """Return the names that ``--task`` accepts: those of the task files and of their presets.

    Example:
        >>> "position" in list_tasks(), "pt18" in list_tasks()
        (True, True)
    """
    names = []
    for module in pkgutil.iter_modules(__path__):
        if module.name not in _SHARED:
            names.append(module.name)
            names += _presets(module.name)
    return names


def create_task(name: str, canvas: tuple[int, int] = (200, 100), **kwargs: Any) -> PatchTask:
    """Build a task by name.

    Args:
        name: a task's file name (``position``), or one of its presets (``pt18``, ``pt8``).
        canvas: height and width of the crops, in pixels.
        **kwargs: the options of the task; they override those of a preset.

    Raises:
        InputError: for an unknown task or option, or a value out of range.

    Example:
        >>> create_task("pt8", jitter=2).num_classes
        8
    """
    module_name, preset = _resolve(name)
    task_class = import_module(f"{__name__}.{module_name}").Task
    merged = {**preset, **kwargs}
    check_options(name, merged, _option_names(task_class))
    task: PatchTask = task_class(canvas, **merged)
    return task


def canonical_name(name: str) -> str:
    """Return the name of the task that a name or preset stands for.

    Raises:
        InputError: for an unknown task.

    Example:
        >>> canonical_name("pt18")
        'position'
    """
    return _resolve(name)[0]


def _resolve(name: str) -> tuple[str, dict[str, Any]]:
    for module in pkgutil.iter_modules(__path__):
        if module.name in _SHARED:
            continue
        if module.name == name:
            return name, {}
        presets = _presets(module.name)
        if name in presets:
            return module.name, presets[name]
    known = list_tasks()
    raise InputError(
        f"--task {name!r}: unknown task (known: {', '.join(known)}){did_you_mean(name, known)}"
    )


def _presets(module_name: str) -> dict[str, dict[str, Any]]:
    """Return a task's presets; if they are plain values, without importing it, and so torch."""
    files = [Path(folder, f"{module_name}.py") for folder in __path__]
    source = next(file for file in files if file.is_file()).read_text(encoding="utf-8")
    if "PRESETS" not in source:
        return {}
    for line in ast.parse(source).body:
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "PRESETS" for target in targets):
            try:
                found: dict[str, dict[str, Any]] = ast.literal_eval(line.value)  # type: ignore[attr-defined]
                return found
            except ValueError:
                break
    presets: dict[str, dict[str, Any]] = getattr(
        import_module(f"{__name__}.{module_name}"), "PRESETS", {}
    )
    return presets


def _option_names(task_class: type[PatchTask]) -> list[str]:
    from patchit_hf.patch_tasks.base import own_options
    from patchit_hf.patch_tasks.transform import PatchTransform

    return own_options(task_class) + PatchTransform.option_names()
