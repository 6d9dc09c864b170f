"""Images with the answers drawn in: one to look at for each image."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from patchit_hf.common.errors import InputError
from patchit_hf.common.files import replacing
from patchit_hf.data.images import Images
from patchit_hf.downstream.results import ActionResult, AttributesResult, PoseResult, Result
from patchit_hf.predict.given import Person

SMALL, LARGE = 560, 1600  # pixels: a smaller image is enlarged, a larger one made smaller
LETTERS, LINE, PANEL, MARGIN = 14, 20, 320, 12  # size of letters, of a line, of the text's panel
INK, SOFT, PAPER, BLUE = (27, 27, 27), (120, 120, 120), (255, 255, 255), (68, 119, 180)
RIGHT, LEFT, MIDDLE = (255, 165, 0), (0, 170, 255), (255, 255, 255)
SURE = 0.2  # score below which a joint is drawn hollow
LIMBS = (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
MIDDLES = (("neck", "head top"), *((f"left {j}", f"right {j}") for j in ("shoulder", "hip")))
TRUNK = tuple((f"{side} shoulder", f"{side} hip") for side in ("left", "right"))


class Drawing:
    """Draws people into copies of their images, as they come.

    Args:
        folder: where the pictures go; made if missing.

    Attributes:
        files: the pictures that were written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self.files: list[Path] = []
        self._names: set[str] = set()
        self._image: tuple[str, Any] | None = None
        self._people: list[tuple[Person, Result]] = []

    def add(self, person: Person, result: Result) -> None:
        """Add a person; those of one image come one after the other.

        Raises:
            InputError: if there is nothing to draw of such a result.
        """
        if not isinstance(result, AttributesResult | ActionResult | PoseResult):
            raise InputError(
                "--draw: this model finds no labels and no joints to draw; patchit figures draws "
                "whom it takes for whom"
            )
        key = f"{person.file} {person.frame} {person.split} {person.row}"
        if self._image is None or self._image[0] != key:
            self.finish()
            self._image = key, person.image
        self._people.append((person, result))

    def finish(self) -> None:
        """Write the copy of the last image."""
        if self._image is None:
            return
        first = self._people[0][0]
        picture = picture_of(Images([self._image[1]]).rgb(0), self._people)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / self._name(first)
        with replacing(path) as draft:
            picture.save(draft, "PNG")
        self.files.append(path)
        self._image, self._people = None, []

    def _name(self, person: Person) -> str:
        words = [Path(person.file).stem]
        words += [f"{person.frame:06d}"] if person.frame is not None else []
        words += [f"{person.split}-{person.row:06d}"] if person.row is not None else []
        stem = re.sub(r"[^\w.-]+", "_", "-".join(words))
        name, count = stem, 1
        while name.lower() in self._names:  # another folder's
            count += 1
            name = f"{stem}-{count}"
        self._names.add(name.lower())
        return f"{name}.png"


def picture_of(image: Image.Image, people: list[tuple[Person, Result]]) -> Image.Image:
    """Return an image with the people in it, and the answers in a panel beside it.

    Args:
        image: in RGB, as it is shown.
        people: of this image, and what was found. Boxes are numbered as in the panel, by their
            tracks if they have any.
    """
    scale = min(max(1.0, SMALL / image.height), LARGE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    drawn = image.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(drawn)
    for person, result in people:
        if person.box is not None:
            box = tuple(value * scale for value in person.box)
            draw.rectangle(box, outline=INK, width=4)
            draw.rectangle(box, outline=PAPER, width=2)
        if isinstance(result, PoseResult):
            draw_joints(draw, result, scale)
    if people[0][0].box is None:
        return beside(drawn, panel_lines(people[0][1]))
    legend: list[str] = []
    for number, (person, result) in enumerate(people, 1):
        name = str(number) if person.track is None else f"#{person.track}"
        draw_name(draw, person, name, scale, size)
        legend += wrapped(draw, f"{name}  {', '.join(label_words(result))}", PANEL - MARGIN)
    return with_legend(drawn, legend) if any(label_words(r) for _, r in people) else drawn


def draw_joints(draw: ImageDraw.ImageDraw, result: PoseResult, scale: float) -> None:
    """Draw bones and joints: the person's right orange, the left blue; unsure joints hollow."""
    points = {name: (p.x * scale, p.y * scale) for name, p in result.keypoints.items()}
    sides = [(f"{s} {a}", f"{s} {b}") for s in ("right", "left") for a, b in LIMBS]
    bones = [bone for bone in (*MIDDLES, *TRUNK, *sides) if set(bone) <= points.keys()]
    for width, dark in ((6, True), (3, False)):
        for a, b in bones:
            same = a.split()[0] == b.split()[0]
            colour = INK if dark else side_colour(a) if same else MIDDLE
            draw.line([points[a], points[b]], fill=colour, width=width)
    for name, (x, y) in points.items():
        sure = result.keypoints[name].score >= SURE
        fill = side_colour(name) if sure else None
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=fill, outline=INK, width=2)
        if not sure:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), outline=side_colour(name), width=2)


def side_colour(joint: str) -> tuple[int, int, int]:
    """Return the colour of a joint: the person's right, left, or neither."""
    return {"right": RIGHT, "left": LEFT}.get(joint.split()[0], MIDDLE)


def draw_name(
    draw: ImageDraw.ImageDraw, person: Person, name: str, scale: float, size: tuple[int, int]
) -> None:
    """Write a person's number into the upper left corner of the box, where it is in the image."""
    x, y = (max(value * scale, 0) for value in (person.box or (0, 0))[:2])
    wide = draw.textlength(name, font=font()) + 6
    x, y = min(x, size[0] - wide), min(y, size[1] - LINE)
    draw.rectangle((x, y, x + wide, y + LINE), fill=PAPER, outline=INK)
    draw.text((x + 3, y + 1), name, fill=INK, font=font())


def label_words(result: Result) -> list[str]:
    """Return the answers about a person in a box, the surest first."""
    if isinstance(result, ActionResult):
        return [f"{result.label} {result.score:.0%}"]
    found = [(name, value) for name, value, is_answer in panel_lines(result) if is_answer]
    return [f"{name} {value:.0%}" for name, value in sorted(found, key=lambda item: -item[1])]


def wrapped(draw: ImageDraw.ImageDraw, text: str, room: int) -> list[str]:
    """Return a text in lines of at most some pixels, all but the first indented."""
    lines: list[str] = []
    for word in text.split(", "):
        longer = f"{lines[-1]}, {word}" if lines else word
        if lines and draw.textlength(longer, font=font()) > room:
            lines.append(f"     {word}")
        else:
            lines[-1:] = [longer]
    return [shortened(draw, line, room) for line in lines]


def with_legend(image: Image.Image, lines: list[str]) -> Image.Image:
    """Return an image with lines of text at its right, in as many columns as they need."""
    page, a_column = page_for(image, len(lines))
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        column, row = divmod(number, a_column)
        place = (image.width + MARGIN + column * PANEL, MARGIN + row * LINE)
        draw.text(place, line, fill=INK, font=font())
    return page


def panel_lines(result: Result) -> list[tuple[str, float, bool]]:
    """Return each label of a whole image, its probability, and whether it is the answer."""
    if isinstance(result, ActionResult):
        ordered = sorted(result.probabilities.items(), key=lambda item: -item[1])
        return [(name, value, name == result.label) for name, value in ordered]
    if isinstance(result, AttributesResult):
        chosen = {f"{k}={v}" for k, v in result.labels.items()}
        chosen |= {name for name, value in result.labels.items() if value is True}
        return [(name, value, name in chosen) for name, value in result.probabilities.items()]
    return []


def beside(image: Image.Image, lines: list[tuple[str, float, bool]]) -> Image.Image:
    """Return an image with a panel of labels and their probabilities at its right, if any.

    Answers are dark and have a filled bar, the others are light and have an empty one.
    """
    page, a_column = page_for(image, len(lines))
    draw = ImageDraw.Draw(page)
    for number, (name, chance, is_answer) in enumerate(lines):
        column, row = divmod(number, a_column)
        x, y = image.width + MARGIN + column * PANEL, MARGIN + row * LINE
        colour = INK if is_answer else SOFT
        draw.rectangle((x, y + 3, x + 60, y + LINE - 5), outline=colour)
        if is_answer:
            draw.rectangle((x, y + 3, x + round(60 * chance), y + LINE - 5), fill=BLUE)
        else:
            draw.line((x + 60 * chance, y + 3, x + 60 * chance, y + LINE - 5), fill=SOFT, width=2)
        draw.text((x + 68, y), f"{chance:4.0%}", fill=colour, font=font())
        draw.text((x + 112, y), shortened(draw, name, PANEL - 124), fill=colour, font=font())
    return page


def page_for(image: Image.Image, lines: int) -> tuple[Image.Image, int]:
    """Return white paper with an image at its left, and how many lines a column takes."""
    if not lines:
        return image, 1
    a_column = max(1, (max(image.height, SMALL) - 2 * MARGIN) // LINE)
    columns = -(-lines // a_column)
    height = max(image.height, min(lines, a_column) * LINE + 2 * MARGIN)
    page = Image.new("RGB", (image.width + columns * PANEL + MARGIN, height), PAPER)
    page.paste(image, (0, 0))
    return page, a_column


def shortened(draw: ImageDraw.ImageDraw, text: str, room: int) -> str:
    """Return a text that is no wider than some pixels, with dots where it was cut."""
    if draw.textlength(text, font=font()) <= room:
        return text
    while text and draw.textlength(f"{text}...", font=font()) > room:
        text = text[:-1]
    return f"{text}..."


@cache
def font() -> ImageFont.FreeTypeFont:
    """Return the letters: DejaVu Sans, which matplotlib brings."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), LETTERS)
