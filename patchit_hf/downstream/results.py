"""What a finetuned model says about one image, by name instead of by number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class AttributesResult:
    """The attributes of a person.

    Attributes:
        labels: the most probable answer of each column: True or False, or the name of a class.
        probabilities: of each yes/no column by its name, such as ``hat``, and of each class of
            the other columns, such as ``coat=red``.
    """

    labels: dict[str, bool | str]
    probabilities: dict[str, float]


@dataclass(frozen=True)
class ActionResult:
    """The action, or whichever label the model was trained on.

    Attributes:
        label: the most probable class.
        probabilities: of each class by its name; they add up to 1.
    """

    label: str
    probabilities: dict[str, float]

    @property
    def score(self) -> float:
        """The probability of the label."""
        return self.probabilities[self.label]


@dataclass(frozen=True, eq=False)
class ReidResult:
    """What tells a person from others.

    Attributes:
        embedding: float32 ``[C]``; the cosine of two embeddings says how alike the people are.
    """

    embedding: NDArray[np.float32]


class Keypoint(NamedTuple):
    """Where a joint is.

    Attributes:
        x: from the left edge of the image, in pixels; the centre of the first pixel is 0.5.
        y: from its top edge, in pixels.
        score: of the joint; higher is surer.
    """

    x: float
    y: float
    score: float


@dataclass(frozen=True)
class PoseResult:
    """The joints of a person.

    Attributes:
        keypoints: each joint by its name, in pixels of the image as it is shown.
    """

    keypoints: dict[str, Keypoint]


@dataclass(frozen=True, eq=False)
class RawResult:
    """The prediction of a task that names nothing.

    Attributes:
        prediction: float32, of whichever shape the task predicts for an image.
    """

    prediction: NDArray[np.float32]


Result = AttributesResult | ActionResult | ReidResult | PoseResult | RawResult
