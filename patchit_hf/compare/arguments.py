"""Arguments of a comparison: which initial weights, and with which budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patchit_hf.common.arguments import Arguments, arg
from patchit_hf.downstream import list_downstream


@dataclass(frozen=True, kw_only=True)
class CompareArguments(Arguments):
    """Which initial weights are compared, and on what data."""

    task: str = arg("attributes", "--task", "task", "what is learnt", choices=list_downstream)
    task_kwargs: dict[str, Any] = arg({}, "--task-kwargs", "task", "options of the task, KEY=VALUE")
    init: list[str] = arg(
        [],
        "--init",
        "contenders",
        "initial weights, as in finetuning; once per contender, NAME=SOURCE to give it a name",
    )
    backbone: str | None = arg(None, "--backbone", "contenders", "timm's model name, without a tag")
    reference: str | None = arg(
        None,
        "--reference",
        "contenders",
        "the contender whose lead over random weights counts as 100 %; timm's by default",
    )
    against: str | None = arg(
        None,
        "--against",
        "contenders",
        "the contender that differences and their intervals are to; by default random weights, or "
        "else the first",
    )
    fractions: list[float] = arg([1.0], "--fractions", "contenders", "fractions of the labels")
    subset_seed: int | None = arg(
        None,
        "--subset-seed",
        "contenders",
        "seed for the choice of labels that --fractions keep; not the seed of the training",
    )
    seeds: int = arg(3, "--seeds", "contenders", "runs per contender")
    learning_rates: list[float] = arg(
        [3e-4, 1e-3, 3e-3],
        "--learning-rates",
        "contenders",
        "learning rates to choose from; a single value is used as it is",
    )
    select_at: float | None = arg(
        None,
        "--select-at",
        "contenders",
        "fraction of the labels at which learning rates are chosen; by default the largest of "
        "--fractions",
    )
    dataset: str | None = arg(None, "--dataset", "data", "Hub id or folder, as in finetuning")
    split: str | None = arg(None, "--split", "data", "training split")
    test_dataset: str | None = arg(
        None, "--test-dataset", "data", "another data set to test on, for example in re-id"
    )
    test_split: str | None = arg(
        None,
        "--test-split",
        "data",
        "split to test on; by default test, or else the held-out crops",
    )
    input_size: str | None = arg(
        None,
        "--input-size",
        "data",
        "height x width of the input, the same for all; by default that of the exports among the "
        "contenders, or 192x96",
    )
    bootstrap: int = arg(
        200,
        "--bootstrap",
        "output",
        "bootstrap samples for the intervals of differences; 0 for none",
    )
