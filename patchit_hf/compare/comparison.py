"""Initial weights compared by one call, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchit_hf.common.errors import InputError
from patchit_hf.common.files import replacing
from patchit_hf.common.layout import COMPARISON_FILE
from patchit_hf.common.provenance import versions
from patchit_hf.compare import table
from patchit_hf.compare.arguments import CompareArguments
from patchit_hf.compare.cells import run_plan
from patchit_hf.compare.plan import make_plan
from patchit_hf.figures.label_efficiency import label_efficiency
from patchit_hf.finetune.arguments import FinetuningArguments


@dataclass(frozen=True)
class Comparison:
    """How several initial weights did with one budget.

    Attributes:
        task: the downstream task.
        dataset: the name of the training data.
        test: the name of the test split.
        backbone: the architecture that was asked for, or None.
        folder: where the finetuned models lie.
        primary_metric: the metric that is compared.
        rows: one for each contender and share of the labels, as JSON values: ``contender``,
            ``fraction``, ``labels``, ``mean`` of the primary metric over the seeds, its
            ``deviation``, the ``difference`` to ``against`` with its ``interval``,
            ``gap_closed``, the ``values`` of each seed, all metrics, and the learning rate.
        initial_weights: the fingerprint of each contender's, None for random ones.
        input_size: height and width of all inputs, in pixels.
        learning_rates: the one that each contender chose on validation.
        trials: what it chose from.
        at_the_edge: contenders that did best at an end of the grid, and might beyond it.
        selected_at: the share of the labels at which learning rates were chosen.
        reference: the contender whose lead over random weights is the whole gap, or None.
        against: the contender that differences are to.
    """

    task: str
    dataset: str
    test: str
    backbone: str | None
    folder: Path
    primary_metric: str
    rows: list[dict[str, Any]]
    initial_weights: dict[str, str | None]
    input_size: list[int]
    learning_rates: dict[str, float]
    trials: list[dict[str, Any]]
    at_the_edge: list[str]
    selected_at: float
    reference: str | None
    against: str

    def as_json(self) -> dict[str, Any]:
        """Return what ``compare.json`` holds, without ``command`` and ``versions``."""
        return {name: value for name, value in vars(self).items() if name != "folder"}

    def table(self) -> str:
        """Return the rows as a table in Markdown."""
        return table.table(self.as_json())

    def save(self, folder: str | Path | None = None, **about: Any) -> list[Path]:
        """Write ``compare.json``, ``compare.md`` and, of several shares, ``label_efficiency.png``.

        Args:
            folder: made if missing; the one of the finetuned models by default.
            **about: further entries of ``compare.json``.

        Returns:
            The files.
        """
        folder = Path(folder or self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        result = self.as_json()
        first = ("task", "dataset", "test", "backbone")
        head = {name: result.pop(name) for name in first} | about | {"versions": versions()}
        table.write_results(folder, result, head)
        files = [folder / COMPARISON_FILE, folder / "compare.md"]
        figure = label_efficiency({**result, "task": self.task, "test": self.test})
        if figure is not None:
            files.append(folder / "label_efficiency.png")
            with replacing(files[-1]) as draft:
                figure.savefig(draft, format="png")
        return files


def compare(
    init: Sequence[str] | Mapping[str, str],
    dataset: str | Path | None = None,
    *,
    task: str = "attributes",
    task_kwargs: dict[str, Any] | None = None,
    backbone: str | None = None,
    reference: str | None = None,
    against: str | None = None,
    fractions: Sequence[float] = (1.0,),
    subset_seed: int | None = None,
    seeds: int = 3,
    learning_rates: Sequence[float] = (3e-4, 1e-3, 3e-3),
    select_at: float | None = None,
    split: str | None = None,
    test_dataset: str | Path | None = None,
    test_split: str | None = None,
    input_size: tuple[int, int] | None = None,
    bootstrap: int = 200,
    args: FinetuningArguments | None = None,
) -> Comparison:
    """Finetune from several initial weights with one budget, and test each once.

    ``patchit compare`` in Python. Called again after it was stopped, it goes on:
    what is finetuned is not finetuned again. Data sets are named, not given, as each finetuning
    opens them by itself.

    Args:
        init: the contenders, at least two: initial weights as in finetuning, or such by the name
            that the results give them.
        dataset: a Hub id or a folder; rendered people by default.
        task: ``attributes``, ``reid``, ``pose`` or ``action``.
        task_kwargs: the options of the task.
        backbone: a model of timm's, for initial weights that do not bring one.
        reference: the contender whose lead over random weights is the whole gap; timm's by default.
        against: the contender that differences are to; random weights by default, or the first.
        fractions: shares of the labels.
        subset_seed: another draw of the labels that ``fractions`` keep.
        seeds: runs of each contender.
        learning_rates: the grid that each contender chooses from; one value for no choice.
        select_at: the share of the labels at which it chooses; the largest by default.
        split: the training split.
        test_dataset: another data set to test on.
        test_split: ``test`` by default, else what is held out.
        input_size: height and width of the input, in pixels; by default that of the exports among
            the contenders.
        bootstrap: samples of the intervals of differences; 0 for none.
        args: the budget, the same for all; ``output_dir`` is where the models are kept.

    Returns:
        The results; ``save`` writes them as the command does.

    Raises:
        InputError: for contenders, data or numbers that cannot be, before anything is trained.

    Example:
        ::

            result = compare(
                {"random": "random", "mine": "runs/resnet18-position-people"},
                backbone="resnet18", fractions=[0.1, 1.0],
                args=FinetuningArguments(max_steps=200, output_dir="runs/compare"),
            )
            print(result.table())
    """
    what = CompareArguments(
        task=task,
        task_kwargs=dict(task_kwargs or {}),
        init=_named_sources(init),
        backbone=backbone,
        reference=reference,
        against=against,
        fractions=list(fractions),
        subset_seed=subset_seed,
        seeds=seeds,
        learning_rates=list(learning_rates),
        select_at=select_at,
        dataset=None if dataset is None else str(dataset),
        split=split,
        test_dataset=None if test_dataset is None else str(test_dataset),
        test_split=test_split,
        input_size=None if input_size is None else "{}x{}".format(*input_size),
        bootstrap=bootstrap,
    )
    return run_comparison(what, args or FinetuningArguments())


def run_comparison(what: CompareArguments, args: FinetuningArguments) -> Comparison:
    """Compare; see ``compare``.

    Args:
        what: who is compared, and on how much.
        args: the budget.

    Raises:
        InputError: see ``compare``.
    """
    plan = make_plan(what, args)
    test = plan.test()[1]  # now, so that a wrong name is said before hours of training
    return Comparison(
        task=what.task,
        dataset=what.dataset or "people",
        test=test,
        backbone=what.backbone,
        folder=plan.folder,
        **run_plan(plan),
    )


def _named_sources(init: Sequence[str] | Mapping[str, str]) -> list[str]:
    if isinstance(init, str):
        raise InputError(f"init {init!r}: must be a list of at least two, or sources by name")
    if not isinstance(init, Mapping):
        return list(init)
    for name in init:
        if not name or "=" in name:
            raise InputError(f"init: {name!r} is no name: must be a word without '='")
    return [f"{name}={source}" for name, source in init.items()]
