"""Arguments of an average: which runs, and which crops its batch statistics are estimated on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from patchit_hf.common.arguments import arg
from patchit_hf.common.errors import InputError
from patchit_hf.data.choices import parse_canvas
from patchit_hf.data.decoding import DecodeArguments


@dataclass(frozen=True, kw_only=True)
class AverageArguments(DecodeArguments):
    """Which runs are averaged; see each field's help.

    Raises:
        InputError: for fewer than two runs, a run that is named twice, or no output folder.
    """

    runs: list[str] = arg(
        [],
        "RUN",
        "runs",
        "exports of pretrained backbones: folders, or org/name[@revision] on the Hub; at least two",
    )
    output: str = arg("", "--output", "output", "folder for the average; it must not exist yet")
    dataset: str | None = arg(
        None,
        "--dataset",
        "data",
        "crops that the batch-norm statistics are estimated on: Hub id or folder, as in "
        "pretraining; by default those that the runs were trained on",
    )
    split: str | None = arg(None, "--split", "data", "the split; by default train, or the only one")
    input_size: str | None = arg(
        None,
        "--input-size",
        "data",
        "height x width of the whole crops; by default that of the runs, if it is the same",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.runs) < 2:
            raise InputError(f"RUN: {len(self.runs)} given; an average needs at least two")
        twice = sorted({run for run in self.runs if self.runs.count(run) > 1})
        if twice:
            raise InputError(f"RUN {twice[0]!r}: is given more than once")
        if not self.output:
            raise InputError("--output: is needed, the folder for the average")

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the whole crops, in pixels, if they are given.

        Raises:
            InputError: if the text is not two whole numbers.
        """
        if self.input_size is None:
            return None
        return parse_canvas(self.input_size, "--input-size")

    @property
    def decode(self) -> DecodeArguments:
        """How crops are decoded."""
        names = [item.name for item in dataclasses.fields(DecodeArguments)]
        return DecodeArguments(**{name: getattr(self, name) for name in names})
