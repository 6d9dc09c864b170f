"""Cut boxes into a data set of crops."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchit_hf.common.errors import InputError
from patchit_hf.crops.arguments import ON_BAD
from patchit_hf.crops.cutting.options import CropOptions

if TYPE_CHECKING:
    from patchit_hf.crops.cutting.shards import Shards
    from patchit_hf.crops.detections import Detections


def make_crops(
    detections: Detections | str | Path,
    images: str | Path,
    output: str | Path,
    options: CropOptions | None = None,
    *,
    workers: int = 0,
    on_bad_image: str = "raise",
    name: str | None = None,
    license: str = "unknown",
    title: str | None = None,
    pictures_from: str = "",
) -> dict[str, Any]:
    """Cut boxes into a data set of crops that ``load_crops`` and ``datasets`` read.

    Called again after it was stopped, it goes on; called again after that, it does nothing.

    Args:
        detections: the boxes: what ``read_detections`` or ``from_supervision`` returned, or a file
            or a folder for ``read_detections``.
        images: folder of the pictures or videos, or a video.
        output: folder of the data set: new, empty, or of the same data set.
        options: how a box becomes a crop.
        workers: number of processes; 0 for this one alone.
        on_bad_image: ``raise``; ``skip``; or ``replace`` the boxes of a bad picture by the next of
            their tracks that ``keep_every`` or ``every`` left out, where there are any.
        name: of the boxes, for the card; a file's own name by default.
        license: of the crops, as the Hub spells it.
        title: of the card.
        pictures_from: where the pictures come from, for the card.

    Returns:
        What ``report.json`` holds: every box is in it, kept or dropped.

    Raises:
        InputError: for bad input; what was finished before it stays for the next call.

    Example:
        >>> from PIL import Image
        >>> Path("photos").mkdir()
        >>> Image.new("RGB", (200, 300)).save("photos/a.png")
        >>> _ = Path("boxes.txt").write_text("a.png 20 20 120 220")  # filename minx miny maxx maxy
        >>> report = make_crops("boxes.txt", "photos", "crops", CropOptions(canvas="100x50"))
        >>> report["boxes"]["kept"]
        1
    """
    from patchit_hf.common.files import read_json
    from patchit_hf.crops.cutting.plan import make_plan, open_images
    from patchit_hf.crops.cutting.run import cut_all
    from patchit_hf.crops.cutting.shards import REPORT, Shards
    from patchit_hf.crops.cutting.suspect import check_boxes
    from patchit_hf.crops.detections import Detections, read_detections

    if on_bad_image not in ON_BAD:
        raise InputError(f"on_bad_image {on_bad_image!r}: must be one of {', '.join(ON_BAD)}")
    if not isinstance(detections, Detections):
        name = name or Path(detections).name
        detections = read_detections(detections)
    name = name or "boxes in memory"
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
    from patchit_hf.crops.cutting.card import make_report, render_card
    from patchit_hf.crops.cutting.sheet import contact_sheet

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
