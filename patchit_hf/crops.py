"""Cut boxes of persons into a data set of crops: ``python -m patchit_hf.crops``."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchit_hf import cli
from patchit_hf.console import guarded, say
from patchit_hf.crops_args import ON_BAD, CropsArguments
from patchit_hf.data.cutting.options import CropOptions
from patchit_hf.errors import InputError

if TYPE_CHECKING:
    from patchit_hf.data.cutting.shards import Shards
    from patchit_hf.data.detections import Detections

DESCRIPTION = """\
Cut boxes of persons out of pictures, into a data set of crops.

  python -m patchit_hf.crops --detections BOXES --images FOLDER --output OUT
  python -m patchit_hf.crops --detections BOXES --images FOLDER --push-to-hub org/name
  python -m patchit_hf.crops --detector NAME --images FOLDER_OR_VIDEO --output OUT
  python -m patchit_hf.pretrain --dataset OUT

BOXES: COCO JSON, Pascal VOC, YOLO, MOTChallenge, lines of `filename minx miny maxx maxy`, CSV or
Parquet, or PARSE-27k's data base. A run that was stopped is continued by the same command."""


def make_crops(
    detections: Detections,
    images: str | Path,
    output: str | Path,
    options: CropOptions | None = None,
    *,
    workers: int = 0,
    on_bad_image: str = "raise",
    name: str = "boxes in memory",
    license: str = "unknown",
    title: str | None = None,
    pictures_from: str = "",
) -> dict[str, Any]:
    """Cut boxes into a data set of crops that ``load_crops`` and ``datasets`` read.

    Called again after it was stopped, it goes on; called again after that, it does nothing.

    Args:
        detections: the boxes; see ``patchit_hf.data.detections``.
        images: folder of the pictures or videos, or a video.
        output: folder of the data set: new, empty, or of the same data set.
        options: how a box becomes a crop.
        workers: number of processes; 0 for this one alone.
        on_bad_image: ``raise``; ``skip``; or ``replace`` the boxes of a bad picture by the next of
            their tracks that ``keep_every`` or ``every`` left out, where there are any.
        name: of the boxes, for the card.
        license: of the crops, as the Hub spells it.
        title: of the card.
        pictures_from: where the pictures come from, for the card.

    Returns:
        What ``report.json`` holds: every box is in it, kept or dropped.

    Raises:
        InputError: for bad input; what was finished before it stays for the next call.
    """
    from patchit_hf.data.cutting.plan import make_plan, open_images
    from patchit_hf.data.cutting.run import cut_all
    from patchit_hf.data.cutting.shards import REPORT, Shards
    from patchit_hf.data.cutting.suspect import check_boxes
    from patchit_hf.files import read_json

    if on_bad_image not in ON_BAD:
        raise InputError(f"on_bad_image {on_bad_image!r}: must be one of {', '.join(ON_BAD)}")
    options = options or CropOptions()
    folder = Path(output).expanduser()
    plan = make_plan(detections, open_images(images, options, detections.kind), options)
    check_boxes(plan, options)
    shards = Shards(folder, plan, options)
    if not shards.finished:
        cut_all(shards, plan, options, workers=workers, on_bad=on_bad_image)
        about = {"title": title or f"Person crops: {folder.name}", "license": license}
        _finish(shards, name, {**about, "of": pictures_from})
    return read_json(folder / REPORT)


def _finish(shards: Shards, name: str, about: dict[str, str]) -> None:
    """Write card, contact sheet and report, and bring the data set into its folder."""
    from patchit_hf.data.cutting.card import make_report, render_card
    from patchit_hf.data.cutting.sheet import contact_sheet

    counts = shards.gather()
    report = make_report(shards, counts, name)
    if not counts:
        shutil.rmtree(shards.work)
        reasons = report["boxes"]["reasons"].items()
        raise InputError(
            f"no crop is left of {report['boxes']['in_all']} boxes; dropped: "
            + ", ".join(f"{reason} {count}" for reason, count in reasons)
        )
    card = render_card(shards, report, about)
    files = {"contact_sheet.png": contact_sheet(shards), "README.md": card.encode()}
    shards.publish(report, files)


def run(argv: list[str] | None = None) -> int:
    """Cut as the words say.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    what, options = cli.parse(
        DESCRIPTION, argv, CropsArguments, CropOptions, prog="patchit_hf.crops"
    )
    if what.push_to_hub:
        from patchit_hf.crops_hub import push_crops
        from patchit_hf.publish.access import check_push

        check_push(what.push_to_hub, repo_type="dataset", private=what.hub_private)
    folder = what.output or f"crops/{what.push_to_hub.split('/')[-1]}"
    found = _find(what, options, folder)
    boxes = what.detections or what.detector
    say(f"{boxes}: {len(found):,} boxes in {len(found.images):,} pictures ({found.kind})")
    report = make_crops(
        found,
        what.images,
        folder,
        options,
        workers=(os.cpu_count() or 1) if what.workers < 0 else what.workers,
        on_bad_image=what.on_bad_image,
        name=Path(boxes).name if Path(boxes).exists() else boxes,
        license=what.license,
        title=what.title,
        pictures_from=what.pictures_from,
    )
    _tell(folder, report, what.on_bad_image)
    if what.push_to_hub:
        say(f"pushed: {push_crops(folder, what.push_to_hub, private=what.hub_private)}")
    return 0


def _find(what: CropsArguments, options: CropOptions, folder: str) -> Detections:
    """Read the boxes, or have them found."""
    if what.detections:
        from patchit_hf.data.detections import read_detections

        return read_detections(
            what.detections,
            what.format,
            image_list=what.image_list,
            columns=what.columns,
            box_format=what.box_format,
        )
    from patchit_hf.data.cutting.find import detect

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


def _tell(folder: str, report: dict[str, Any], on_bad_image: str) -> None:
    boxes = report["boxes"]
    say(f"{folder}: {boxes['kept']:,} crops of {boxes['in_all']:,} boxes")
    for reason, count in boxes["reasons"].items():
        say(f"  dropped, {reason}: {count:,}")
    if report["pictures"]["bad"]:
        bad, more = f"{report['pictures']['bad']:,}, see {folder}/bad_pictures.jsonl", ""
        if on_bad_image == "replace":
            lost = boxes["reasons"].get("bad picture", 0)
            found = boxes.get("stand_ins", 0)  # 0, too, where it was finished by an older version
            more = f"; {found:,} of {lost:,} boxes replaced"
            if not found:
                more += ": none that --keep-every or --every left out could stand in"
        say(f"  bad pictures: {bad}{more}")
    for split, side in report["splits"].items():
        say(f"  {split}: {side['crops']:,} crops of {side['sources']:,} sources")
    if len(report["splits"]) < 2:
        say(f"  nothing could be held out by {report['source_is']}; --source says what else may")
    say(f"look at {folder}/contact_sheet.png, then: patchit_hf.pretrain --dataset {folder}")


def main(argv: list[str] | None = None) -> int:
    """Run the command; bad input is one line on stderr and exit code 2."""
    return guarded(run, argv, "the same command goes on where it stopped")


if __name__ == "__main__":
    sys.exit(main())
