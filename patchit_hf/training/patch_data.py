"""Arguments about patches, shared by pretraining and the audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patchit_hf.common.arguments import Arguments, arg
from patchit_hf.data.choices import parse_canvas
from patchit_hf.patch_tasks import list_tasks


@dataclass(frozen=True, kw_only=True)
class PatchDataArguments(Arguments):
    """Which crops are used, and which patch task asks about them."""

    dataset: str | None = arg(
        None,
        "--dataset",
        "data",
        "Hub id, folder of images, parquet or arrow files, or save_to_disk folder; rendered people "
        "by default",
    )
    split: str | None = arg(
        None, "--split", "data", "training split; by default train, or the only one"
    )
    streaming: bool = arg(
        False, "--streaming", "data", "stream the data instead of preparing it first"
    )
    canvas: str = arg("200x100", "--canvas", "data", "height x width that crops are resized to")
    task: str = arg("position", "--task", "task", "patch task, or a preset", choices=list_tasks)
    task_kwargs: dict[str, Any] = arg(
        {},
        "--task-kwargs",
        "task",
        "options of the task, such as rows=6 cols=3 patch_size=32 jitter=4",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_canvas(self.canvas)
