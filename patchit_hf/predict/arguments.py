"""Arguments of ``patchit predict`` and ``patchit embed``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from patchit_hf.common.arguments import Arguments, arg
from patchit_hf.common.endings import TABLE, VECTORS, check_ending
from patchit_hf.data.choices import parse_canvas


@dataclass(frozen=True, kw_only=True)
class GivenArguments(Arguments):
    """Who is looked at, and by what."""

    run: str = arg("", "RUN", "model", "a folder or org/name[@revision]")
    images: list[str] = arg(
        [],
        "IMAGES",
        "data",
        "images, folders, patterns in quotes, videos, folders of parquet or arrow files, Hub ids",
    )
    split: str | None = arg(
        None, "--split", "data", "the split of a data set; all of them by default"
    )
    image_column: str | None = arg(
        None, "--image-column", "data", "image column; needed only if there are several"
    )
    detections: str | None = arg(
        None,
        "--detections",
        "data",
        "file or folder of boxes: look at the people in them; IMAGES is the folder or video",
    )
    box_format: str | None = arg(
        None,
        "--box-format",
        "data",
        "meaning of the four numbers of a box, where the file does not tell",
        choices=("xyxy", "xywh", "cxcywh"),
    )
    classes: str | None = arg(
        None, "--classes", "data", "classes of the boxes that are people; by name by default"
    )
    min_score: float = arg(-math.inf, "--min-score", "data", "lowest score of a box")
    every: int = arg(1, "--every", "data", "use every k-th frame of a video")
    on_bad_image: str = arg(
        "raise",
        "--on-bad-image",
        "data",
        "what to do with an image or box that cannot be used: stop, or leave it out and say so",
        choices=("raise", "skip"),
    )
    batch_size: int = arg(64, "--batch-size", "output", "people at a time")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole("every", 1)
        self._check_whole("batch_size", 1)


@dataclass(frozen=True, kw_only=True)
class PredictArguments(GivenArguments):
    """Which model looks at which people, and where its answers go."""

    run: str = arg("", "RUN", "model", "a finetuned model: a folder or org/name[@revision]")
    output: str | None = arg(
        None,
        "--output",
        "output",
        "file for the answers: .parquet, .csv or .json; without it, lines of JSON on the screen",
    )
    draw: str | None = arg(
        None, "--draw", "output", "folder for copies of the images with the answers drawn in"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output is not None:
            check_ending(self.output, TABLE)


@dataclass(frozen=True, kw_only=True)
class EmbedArguments(GivenArguments):
    """Which backbone looks at which people, and where its features go."""

    run: str = arg(
        "",
        "RUN_OR_BACKBONE",
        "model",
        "an export or a finetuned model (a folder or org/name[@revision]), or the name of a timm "
        "model for the weights that --init says",
    )
    init: str = arg(
        "timm",
        "--init",
        "model",
        "weights of a timm model: timm[:tag], random, or a .safetensors file",
    )
    input_size: str | None = arg(
        None,
        "--input-size",
        "model",
        "height x width of the input; by default as the model was trained, or 192x96",
    )
    reestimate_batch_norm: bool = arg(
        False,
        "--reestimate-batch-norm",
        "model",
        "estimate batch-norm statistics on these images first, which should then be many",
    )
    output: str = arg("embeddings.parquet", "--output", "output", "file: .parquet, .npy or .csv")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ending(self.output, VECTORS)
        if self.input_size is not None:
            parse_canvas(self.input_size, "--input-size")
