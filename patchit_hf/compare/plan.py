"""What is compared: contenders, cells and the budget, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import datasets

from patchit_hf.common.errors import InputError
from patchit_hf.compare.arguments import CompareArguments
from patchit_hf.downstream import task_class
from patchit_hf.evaluate.scores import open_judged
from patchit_hf.finetune.arguments import FinetuneArguments, FinetuningArguments
from patchit_hf.finetune.labelled import check_subset

RANDOM = "random"


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        what: task, data and input; ``init`` and ``fraction`` are each cell's.
        args: the budget, the same for every contender.
        contenders: values of ``--init``, by the name that the table gives them.
        fractions: shares of the labels.
        seeds: seeds.
        learning_rates: the grid that each contender chooses from, on validation.
        select_at: the fraction at which it chooses.
        reference: the contender whose distance to random weights is the whole gap, if any.
        against: the contender that the others are compared with.
        folder: where the cells lie.
        test: opens the test split.
        samples: bootstrap samples of the intervals.
        sizes: height x width of the inputs of contenders that bring none, unless ``what`` says it.
    """

    what: FinetuneArguments
    args: FinetuningArguments
    contenders: dict[str, str]
    fractions: list[float]
    seeds: list[int]
    learning_rates: list[float]
    select_at: float
    reference: str | None
    against: str
    folder: Path
    test: Callable[[], tuple[datasets.Dataset, str]]
    samples: int = 200
    sizes: dict[str, str] = field(default_factory=dict)


def make_plan(what: CompareArguments, args: FinetuningArguments) -> Plan:
    """Check the arguments and return the plan.

    Raises:
        InputError: for contenders or numbers that are not possible.
    """
    contenders = named(what.init)
    _check(what, args, contenders)
    reference, against = what.reference, what.against
    for flag, name in (("--reference", reference), ("--against", against)):
        if name is not None and name not in contenders:
            raise InputError(f"{flag} {name!r}: must be one of {', '.join(contenders)}")
    if against is None:
        against = RANDOM if RANDOM in contenders else next(iter(contenders))
    if reference is None:
        reference = next((n for n, s in contenders.items() if s.startswith("timm")), None)
    data = Path(what.dataset).name if what.dataset else "people"
    folder = Path(args.output_dir or Path("runs") / f"compare-{what.task}-{data}")
    finetuning = FinetuneArguments(
        task=what.task,
        task_kwargs=what.task_kwargs,
        backbone=what.backbone,
        dataset=what.dataset,
        split=what.split,
        input_size=what.input_size,
        subset_seed=what.subset_seed,
    )
    return Plan(
        finetuning,
        args,
        contenders,
        what.fractions,
        [args.seed + i for i in range(what.seeds)],
        what.learning_rates,
        what.select_at or max(what.fractions),
        reference,
        against,
        folder,
        lambda: open_judged(
            what.test_dataset or what.dataset,
            what.test_split,
            args.image_column,
            allow_urls=args.allow_urls,
            people_in_names=task_class(what.task).people_in_names,
        ),
        what.bootstrap,
    )


def _check(what: CompareArguments, args: FinetuningArguments, contenders: dict[str, str]) -> None:
    """Check that a comparison is possible.

    Raises:
        InputError: for contenders, numbers or a push that are not.
    """
    if len(contenders) < 2:
        raise InputError(f"--init {what.init}: name at least two, such as --init random --init ...")
    if what.seeds < 1:
        raise InputError(f"--seeds {what.seeds}: must be at least 1")
    for flag, values in (("--fractions", what.fractions), ("--select-at", [what.select_at])):
        for value in values:
            if value is not None and not 0 < value <= 1:
                raise InputError(f"{flag} {value}: must be above 0 and at most 1")
    parts = [value for value in (*what.fractions, what.select_at) if value and value < 1]
    check_subset(min(parts, default=None), None, what.subset_seed)
    for rate in what.learning_rates:
        if not rate > 0:
            raise InputError(f"--learning-rates {rate}: must be above 0")
    if args.push_to_hub:
        raise InputError(
            "--push-to-hub: not possible in a comparison; push its best run: "
            "patchit push RUN org/name"
        )


def named(inits: list[str]) -> dict[str, str]:
    """Return sources by name: ``NAME=SOURCE``, or the source's own name.

    Raises:
        InputError: if two have the same name.

    Example:
        >>> named(["random", "mine=runs/position"])
        {'random': 'random', 'mine': 'runs/position'}
    """
    found: dict[str, str] = {}
    for text in inits:
        name, equals, source = text.partition("=")
        source = source if equals else text
        if not equals:
            path = Path(text)
            name = path.stem if text.endswith(".safetensors") else path.name or text
        if name in found:
            raise InputError(f"--init {text!r}: two are named {name!r}; write NAME=SOURCE")
        found[name] = source
    return found
