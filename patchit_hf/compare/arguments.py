"""Which initial weights are compared, and with which budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patchit_hf.common.arguments import arg


@dataclass(frozen=True, kw_only=True)
class CompareArguments:
    """Who is compared, and on how much."""

    task: str = arg("attributes", "--task", "task", "attributes, reid, pose or action")
    task_kwargs: dict[str, Any] = arg({}, "--task-kwargs", "task", "its options")
    init: list[str] = arg(
        [],
        "--init",
        "contenders",
        "initial weights, as in finetuning; once for each contender, NAME=SOURCE to name one",
    )
    backbone: str | None = arg(None, "--backbone", "contenders", "a model of timm's")
    reference: str | None = arg(
        None,
        "--reference",
        "contenders",
        "the contender whose lead over random weights is the whole gap; timm's by default",
    )
    fractions: list[float] = arg([1.0], "--fractions", "contenders", "shares of the labels")
    subset_seed: int | None = arg(
        None, "--subset-seed", "contenders", "another draw of the labels that --fractions keep"
    )
    seeds: int = arg(3, "--seeds", "contenders", "runs of each")
    learning_rates: list[float] = arg(
        [3e-4, 1e-3, 3e-3], "--learning-rates", "contenders", "the grid; one value for no choice"
    )
    select_at: float | None = arg(
        None,
        "--select-at",
        "contenders",
        "share of the labels at which learning rates are chosen; the largest of --fractions",
    )
    dataset: str | None = arg(None, "--dataset", "data", "as in finetuning")
    split: str | None = arg(None, "--split", "data", "training split")
    test_dataset: str | None = arg(
        None, "--test-dataset", "data", "another data set to test on, such as for re-id"
    )
    test_split: str | None = arg(
        None, "--test-split", "data", "test by default, else what is held out"
    )
    input_size: str | None = arg(None, "--input-size", "data", "height x width of the input")
    bootstrap: int = arg(
        200, "--bootstrap", "output", "samples of the intervals against random; 0 for none"
    )
