"""What a finetuned model says about each person, as columns and as records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchit_hf.common.errors import InputError
from patchit_hf.common.tables import write_columns, write_records
from patchit_hf.downstream.results import (
    ActionResult,
    AttributesResult,
    PoseResult,
    ReidResult,
    Result,
)
from patchit_hf.models.finetuned_model import FinetunedModel
from patchit_hf.predict.given import Given, Person

IN_MEMORY = 8  # decoded frames that wait for a batch


@dataclass(frozen=True)
class Answer:
    """What a model says about a person.

    Attributes:
        about: which person, by column; see ``Person.columns``.
        result: what ``FinetunedModel.predict`` returns.
    """

    about: dict[str, Any]
    result: Result

    def columns(self) -> dict[str, Any]:
        """Return one value a column: ``hat`` and ``hat_probability``, ``left_knee_x``, ...

        Example:
            >>> result = ActionResult("walking", {"walking": 0.75, "sitting": 0.25})
            >>> Answer({"file": "a.jpg"}, result).columns()["label=sitting"]
            0.25
        """
        return {**self.about, **_flat(self.result)}

    def record(self) -> dict[str, Any]:
        """Return the same, nested as JSON is."""
        about = {key: value for key, value in self.about.items() if value is not None}
        return {**about, **_nested(self.result)}


@dataclass(frozen=True)
class Answers:
    """What a model says about many people.

    Attributes:
        answers: one for each person, in order.
        bad: why an image was left out, by its name.
        drawn: how many pictures were drawn.
    """

    answers: list[Answer]
    bad: dict[str, str]
    drawn: int = 0

    def __len__(self) -> int:
        return len(self.answers)

    def __iter__(self) -> Iterator[Answer]:
        return iter(self.answers)

    def save(self, path: str | Path) -> list[Path]:
        """Write a ``.parquet``, ``.csv`` or ``.json`` file.

        Returns:
            The files.
        """
        file = Path(path)
        if file.suffix.lower() == ".json":
            return write_records(file, [answer.record() for answer in self.answers])
        rows = [answer.columns() for answer in self.answers]
        names = list(dict.fromkeys(name for row in rows for name in row))
        return write_columns(file, {name: [row.get(name) for row in rows] for name in names})


def answered(
    model: FinetunedModel, people: Given, batch_size: int = 64
) -> Iterator[tuple[Person, Result]]:
    """Yield each person and what a model says about them.

    Raises:
        InputError: for an image or box that cannot be used, unless such are left out.
    """
    for part in _parts(iter(people), batch_size):
        try:
            results = _predict(model, part)
        except InputError:
            part = [person for person in part if _usable(model, person, people)]
            results = _predict(model, part)
        yield from zip(part, results, strict=True)


def _parts(people: Iterator[Person], size: int) -> Iterator[list[Person]]:
    """Yield people in batches, with few decoded images and boxes or none of them in each."""
    part: list[Person] = []
    frames: set[int] = set()
    for person in people:
        decoded = hasattr(person.image, "load")
        full = len(part) == size or (decoded and len(frames | {id(person.image)}) > IN_MEMORY)
        if part and (full or (person.box is None) != (part[0].box is None)):
            yield part
            part, frames = [], set()
        part.append(person)
        frames |= {id(person.image)} if decoded else set()
    if part:
        yield part


def _predict(model: FinetunedModel, part: list[Person]) -> list[Result]:
    if not part:
        return []
    boxes = None if part[0].box is None else [person.box for person in part]
    found: list[Result] = model.predict([p.image for p in part], len(part), boxes=boxes)
    return found


def _usable(model: FinetunedModel, person: Person, people: Given) -> bool:
    """Return whether a person can be predicted; if not, say so or stop."""
    try:
        _predict(model, [person])
    except InputError as error:
        people.leave_out(person.where, str(error).removeprefix("image 0: "))
        return False
    return True


def _flat(result: Result) -> dict[str, Any]:
    if isinstance(result, AttributesResult):
        chances = {
            name if "=" in name else f"{name}_probability": value
            for name, value in result.probabilities.items()
        }
        return {**result.labels, **chances}
    if isinstance(result, ActionResult):
        chances = {f"label={name}": value for name, value in result.probabilities.items()}
        return {"label": result.label, "label_probability": result.score, **chances}
    if isinstance(result, ReidResult):
        return {"embedding": result.embedding}
    if isinstance(result, PoseResult):
        return {
            f"{joint.replace(' ', '_')}_{part}": value
            for joint, point in result.keypoints.items()
            for part, value in point._asdict().items()
        }
    return {"prediction": result.prediction.ravel()}


def _nested(result: Result) -> dict[str, Any]:
    if isinstance(result, AttributesResult):
        return {"labels": result.labels, "probabilities": result.probabilities}
    if isinstance(result, ActionResult):
        return {"label": result.label, "probabilities": result.probabilities}
    if isinstance(result, ReidResult):
        return {"embedding": result.embedding.tolist()}
    if isinstance(result, PoseResult):
        return {"keypoints": {joint: list(point) for joint, point in result.keypoints.items()}}
    return {"prediction": result.prediction.tolist()}
