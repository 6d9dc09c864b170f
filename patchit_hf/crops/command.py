"""Cut boxes of people into a data set of crops: ``patchit crops``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchit_hf.common import cli
from patchit_hf.common.arguments import stated
from patchit_hf.common.config import write_args
from patchit_hf.common.console import as_command, say, say_then
from patchit_hf.common.errors import InputError, did_you_mean_file
from patchit_hf.crops.arguments import CropsArguments
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.make import make_crops

if TYPE_CHECKING:
    from patchit_hf.crops.detections import Detections

DESCRIPTION = """\
Cut boxes of people out of images or videos into a data set of crops.

  patchit crops --detections BOXES --images FOLDER --output OUT
  patchit crops --detections BOXES --images FOLDER --push-to-hub org/name
  patchit crops --detector NAME --images FOLDER_OR_VIDEO --output OUT
  patchit pretrain --dataset OUT

BOXES is a file, a folder, or the root of an export: COCO JSON, YOLO, Pascal VOC, CVAT XML,
LabelMe, Label Studio, MOTChallenge, KITTI, VisDrone, CrowdHuman, Open Images, CSV, Parquet, lines
of `filename minx miny maxx maxy`, or PARSE-27k's database; docs/formats.md shows each. Crops show
full bodies; --preset all keeps small, cut and overlapping people too. To continue a stopped run,
repeat the command."""
ARGUMENTS = (CropsArguments, CropOptions)
PROG = "patchit crops"


def run(argv: list[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: its arguments; those of the process if None.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    what, options = cli.parse(DESCRIPTION, argv, *ARGUMENTS, prog=PROG)
    if what.push_to_hub:
        from patchit_hf.crops.hub import push_crops
        from patchit_hf.publish.access import check_push

        check_push(what.push_to_hub, repo_type="dataset", private=what.hub_private)
    folder = what.output or f"crops/{what.push_to_hub.split('/')[-1]}"
    found = _find(what, options, folder)
    boxes = what.detections or what.detector
    say(f"{boxes}: {len(found):,} boxes in {len(found.images):,} images ({found.kind})")
    report = make_crops(
        found,
        what.images,
        folder,
        options,
        workers=_workers(what),
        on_bad_image=what.on_bad_image,
        engine=what.engine,
        name=Path(boxes).name if Path(boxes).exists() else boxes,
        license=what.license,
        title=what.title,
        pictures_from=what.pictures_from,
    )
    write_args(Path(folder), {**stated(what, options), "output": folder}, PROG)
    _tell(folder, report, what.on_bad_image, options)
    if what.push_to_hub:
        say(f"pushed: {push_crops(folder, what.push_to_hub, private=what.hub_private)}")
    return 0


def _workers(what: CropsArguments) -> int:
    if what.workers < 0:
        return 0 if what.engine == "ray" else os.cpu_count() or 1
    return what.workers


def _find(what: CropsArguments, options: CropOptions, folder: str) -> Detections:
    """Read the boxes from a file, or detect them."""
    if what.detections:
        path = Path(what.detections).expanduser()
        if not path.exists():
            hint = did_you_mean_file(path)
            raise InputError(f"--detections {what.detections!r}: no such file or folder{hint}")
        from patchit_hf.crops.detections import read_detections

        return read_detections(
            what.detections,
            what.format,
            image_list=what.image_list,
            columns=what.columns,
            box_format=what.box_format,
        )
    from patchit_hf.crops.cutting.find import detect

    return detect(
        str(what.images),
        folder,
        str(what.detector),
        options,
        label=what.detector_label,
        score=what.detector_score,
        batch=what.detector_batch,
        skip_bad=what.on_bad_image != "raise",
    )


def _tell(folder: str, report: dict[str, Any], on_bad_image: str, options: CropOptions) -> None:
    from patchit_hf.crops.cutting.select import list_classes

    boxes = report["boxes"]
    say(f"{folder}: {boxes['kept']:,} crops from {boxes['in_all']:,} boxes")
    for reason, count in boxes["reasons"].items():
        classes = list_classes(boxes.get("classes", {})) if reason == "class" else ""
        say(f"  dropped, {reason}: {count:,}" + (f" ({classes})" if classes else ""))
    if hint := options.hint(boxes["reasons"]):
        say(f"  {hint}")
    if report["pictures"]["bad"]:
        bad, more = f"{report['pictures']['bad']:,}, see {folder}/bad_pictures.jsonl", ""
        if on_bad_image == "replace":
            lost = boxes["reasons"].get("bad picture", 0)
            found = boxes.get("stand_ins", 0)  # reports of older versions lack the key
            more = f"; {found:,} of {lost:,} boxes replaced"
            if not found:
                more += ": none of those that --keep-every or --every left out could be used"
        say(f"  bad images: {bad}{more}")
    for split, side in report["splits"].items():
        say(f"  {split}: {side['crops']:,} crops from {side['sources']:,} sources")
    if len(report["splits"]) < 2:
        say(f"  nothing is held out: too few {report['source_is']}s to split, or --validation 0")
    say(f"look at {folder}/contact_sheet.png")
    canvas = () if options.canvas == CropOptions().canvas else ("--canvas", options.canvas)
    say_then("pretrain", "--dataset", folder, *canvas)


main = as_command(run, "repeat the command to continue")
