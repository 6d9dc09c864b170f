"""``make_crops``: cut boxes into a data set of crops from Python."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchit_hf.common.errors import InputError
from patchit_hf.crops.arguments import ON_BAD
from patchit_hf.crops.choices import ENGINES
from patchit_hf.crops.cutting.options import CropOptions

if TYPE_CHECKING:
    from patchit_hf.crops.cutting.shards import Shards
    from patchit_hf.crops.detections import Detections

logger = logging.getLogger(__name__)


def make_crops(
    detections: Detections | str | Path,
    images: str | Path,
    output: str | Path,
    options: CropOptions | None = None,
    *,
    workers: int = 0,
    on_bad_image: str = "raise",
    engine: str = "processes",
    name: str | None = None,
    license: str = "unknown",
    title: str | None = None,
    pictures_from: str = "",
) -> dict[str, Any]:
    r"""Cut boxes into a data set of crops that ``load_crops`` and ``datasets`` read.

    A call after an interruption continues the data set. A call after it is finished does nothing.

    Args:
        detections: the boxes: a result of ``read_detections`` or ``from_supervision``, or a file
            or folder for ``read_detections``.
        images: folder of the images or videos, or one video.
        output: folder of the data set: new, empty, or an unfinished one of the same boxes and
            options.
        options: how a box becomes a crop; the defaults of ``CropOptions`` if None.
        workers: number of worker processes; 0 cuts in this process, and with ``engine="ray"`` on
            all cores of the cluster.
        on_bad_image: ``raise`` an error; ``skip`` the image; or ``replace`` each of its boxes by
            the next box of the same track that ``keep_every`` or ``every`` left out, if any.
        engine: ``processes``, or ``ray`` for a Ray cluster, with the same result: that of
            ``RAY_ADDRESS``, else one on this machine.
        name: what the card calls the boxes; a file's own name by default.
        license: licence of the crops, as the Hub spells it.
        title: title of the card; derived from the folder's name if None.
        pictures_from: where the images come from, for the card.

    Returns:
        The content of ``report.json``, which counts every box as kept or dropped.

    Raises:
        InputError: for bad input; the crops finished before it are kept for the next call.
        ResourceError: if a cluster does not answer, or is lost; likewise.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from patchit_hf.crops import CropOptions, make_crops, read_detections
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "photos").mkdir()
        >>> Image.effect_noise((320, 240), 50).convert("RGB").save(folder / "photos/a.jpg")
        >>> lines = "image,x0,y0,x1,y1\na.jpg,40,20,110,220\na.jpg,200,30,210,50\n"
        >>> _ = (folder / "boxes.csv").write_text(lines)
        >>> boxes = read_detections(folder / "boxes.csv")
        >>> report = make_crops(boxes, folder / "photos", folder / "crops", CropOptions())
        >>> report["boxes"]["kept"], report["boxes"]["reasons"]
        (1, {'too short': 1})
    """
    from patchit_hf.common.files import read_json
    from patchit_hf.crops.cutting.plan import make_plan, open_images
    from patchit_hf.crops.cutting.run import cut_all
    from patchit_hf.crops.cutting.shards import REPORT, Shards
    from patchit_hf.crops.cutting.suspect import check_boxes
    from patchit_hf.crops.detections import Detections, read_detections

    if on_bad_image not in ON_BAD:
        raise InputError(f"on_bad_image {on_bad_image!r}: must be one of {', '.join(ON_BAD)}")
    if engine not in ENGINES:
        raise InputError(f"engine {engine!r}: must be one of {', '.join(ENGINES)}")
    if not isinstance(detections, Detections):
        name = name or Path(detections).name
        detections = read_detections(detections)
    name = name or "boxes in memory"
    options = options or CropOptions()
    folder = Path(output).expanduser()
    plan = make_plan(detections, open_images(images, options, detections.kind), options)
    check_boxes(plan, options)
    for note in plan.notes:
        logger.warning(note)
    shards = Shards(folder, plan, options)
    if not shards.finished:
        cut_all(shards, plan, options, workers=workers, on_bad=on_bad_image, engine=engine)
        about = {"title": title or f"Person crops: {folder.name}", "license": license}
        _finish(shards, name, {**about, "of": pictures_from})
    return read_json(folder / REPORT)


def _finish(shards: Shards, name: str, about: dict[str, str]) -> None:
    """Write card, contact sheet and report, and move the data set into its folder."""
    from patchit_hf.crops.cutting.card import make_report, render_card
    from patchit_hf.crops.cutting.sheet import contact_sheet

    counts = shards.gather()
    report = make_report(shards, counts, name)
    if not counts:
        shutil.rmtree(shards.work)
        reasons = report["boxes"]["reasons"]
        hint = shards.options.hint(reasons)
        raise InputError(
            f"none of the {report['boxes']['in_all']} boxes gave a crop; dropped: "
            + ", ".join(f"{reason} {count}" for reason, count in reasons.items())
            + f" ({hint})" * bool(hint)
        )
    card = render_card(shards, report, about)
    files = {"contact_sheet.png": contact_sheet(shards), "README.md": card.encode()}
    shards.publish(report, files)
