"""The model card: words around what the run measured, and nothing else.

``patchit card RUN --output FOLDER`` writes the card of a run's folder, with the figures that it
shows, to another folder.
"""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Sequence
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from patchit_hf.common import markdown
from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.files import read_json, write_json, write_text
from patchit_hf.common.layout import CARD_FILE, CONFIG_FILE, DONE_FILE
from patchit_hf.common.markdown import Markdown, code, command_without_folders, without_folders
from patchit_hf.publish.measured import (
    FEATURES_TAG,
    for_the_hub,
    measured_in,
    section,
    with_measured,
)

# The figures of a card and their captions. Those that show single people stay in the run's folder,
# unless the people are rendered.
FIGURES = {
    "learning_curve.png": "Held-out accuracy over the training, beside chance and shortcuts",
    "confusion.png": "For each cell of the body, where the network puts its patches",
    "accuracy.png": "Share of right answers by cell of the body",
    "filters.png": "Filters of the first layer",
}
PEOPLE = {
    "patches.png": "Crops, their cells, and the patches that the network is asked about",
    "localisation.png": "Crops beside what the network makes of their patches",
}
ASKED = ("patches.png",)  # belongs to how it was made
_HUB_ID = re.compile(r"[\w-]+/[\w.-]+")
_LICENCES = re.compile(r"(apache|mit|bsd|cc|odbl|openrail|gpl|lgpl|agpl)[\w.-]*")


def render_card(record: dict[str, Any], config: dict[str, Any]) -> str:
    """Return the model card of an export.

    Args:
        record: what ``patchit.json`` holds.
        config: what ``config.json`` holds.

    Returns:
        Markdown with the Hub's metadata on top.
    """
    if "averaged" in record:
        return _render_average(record, config)
    shown = shown_figures(record)
    asked = {name: shown.pop(name) for name in ASKED if name in shown}
    return render(
        "card.md.jinja",
        **shared(record),
        timm_config=config,
        metadata=Markdown(metadata(record).to_yaml()),
        asked=asked,
        shown=shown,
        drawing=_drawing(record["task"]["name"]),
        worth=section(record),
        data_name=_data_name(record["data"]),
        licence=_licence(record["data"]),
        start=shared(record)["initial_weights"],
        options={k: v for k, v in record["task"]["kwargs"].items() if v},
        duration=_duration(record["training"]["seconds"]),
    )


def render(template: str, **values: Any) -> str:
    """Fill a card's template.

    Args:
        template: a file beside this one.
        **values: everything that it names.
    """
    text = files("patchit_hf.publish").joinpath(template).read_text(encoding="utf-8")
    return markdown.render(text, **values)


def shared(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record as a card tells it: local paths are shortened to the last name.

    Args:
        record: what ``patchit.json`` holds.
    """
    start = record.get("initial_weights")
    if start is not None and "source" in start:
        start = {**start, "source": without_folders(str(start["source"]))}
    return {
        **record,
        "command": command_without_folders(record["command"]),
        "initial_weights": start,
    }


def shown_figures(record: dict[str, Any]) -> dict[str, str]:
    """Return the names of the figures that a card shows, with their captions.

    Args:
        record: what ``patchit.json`` holds.
    """
    allowed = FIGURES | (PEOPLE if record["data"].get("rendered") else {})
    return {name: words for name, words in allowed.items() if name in record["figures"]}


def write_card(folder: Path, output: Path, comparisons: Sequence[Path] = ()) -> Path:
    """Write the card of an export, and the figures that it shows, to another folder.

    Args:
        folder: a finished run's.
        output: where to; made if missing.
        comparisons: folders of ``patchit compare`` that these weights took part in. What they say
            of them goes into the card, and into the export's ``patchit.json``, so that every later
            card says it, too.

    Returns:
        The card's file.

    Raises:
        InputError: if the folder holds no export, or a comparison is not of these weights.
    """
    if not (folder / DONE_FILE).is_file():
        raise InputError(f"{str(folder)!r}: holds no export (no {DONE_FILE} in it)")
    record = read_json(folder / DONE_FILE)
    if not (folder / CONFIG_FILE).is_file():
        raise InputError(f"{str(folder)!r}: not an export: it has no {CONFIG_FILE}")
    if "downstream" in record:
        raise InputError(f"{str(folder)!r}: holds a finetuned model, whose card is its {CARD_FILE}")
    config = read_json(folder / CONFIG_FILE)
    measured = [measured_in(path, folder) for path in comparisons]
    try:
        record = with_measured(record, measured)
        text, figures = _card_of(record, config)
    except Exception as error:  # a record that was changed by hand may lack or hold anything
        raise InputError(
            f"{str(folder)!r}: {DONE_FILE} or {CONFIG_FILE} is damaged: they are not those of an "
            f"export: {type(error).__name__}: {one_line(error)}"
        ) from error
    for name in figures:
        if not (folder / "figures" / name).is_file():
            raise InputError(f"{str(folder)!r}: not a whole export: it has no figures/{name}")
    if comparisons:
        write_json(folder / DONE_FILE, record)
    output.mkdir(parents=True, exist_ok=True)
    if output.resolve() != folder.resolve():
        for name in figures:
            (output / "figures").mkdir(exist_ok=True)
            shutil.copyfile(folder / "figures" / name, output / "figures" / name)
    write_text(output / CARD_FILE, text)
    return output / CARD_FILE


def _card_of(record: dict[str, Any], config: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the card of an export, and the names of the figures that it shows."""
    figures = [] if "averaged" in record else list(shown_figures(record))
    return render_card(record, config), figures


def metadata(record: dict[str, Any]) -> ModelCardData:
    """Return the Hub's metadata of an export.

    The licence of weights follows the data that they were learnt from: it is named where the data
    set names one that the Hub knows, and ``other`` stands for any other. Initial weights of another
    licence, or of none that is stated, make it ``other``, too.

    Args:
        record: what ``patchit.json`` holds.
    """
    data, task, results = record["data"], record["task"], dict(record["results"])
    name = called(data)
    rendered = bool(data.get("rendered"))
    stated = str(data.get("license", "")).strip().lower()
    licence = "apache-2.0" if rendered else stated if _LICENCES.fullmatch(stated) else "other"
    start = record.get("initial_weights")
    named = "see-the-data-set"
    if start is not None:
        named = "see-the-data-set-and-the-initial-weights"
        licence = licence if str(start["license"]).lower() == licence else "other"
    without_labels = start is None or (start["labels_known"] and not start["labels"])
    evaluations = for_the_hub(record)
    trained = task.get("kwargs", {}).get("position_weight") != 0  # else places are asked beside it
    if trained and "eval_accuracy" in results:
        evaluations.insert(
            0,
            EvalResult(
                task_type=FEATURES_TAG,
                task_name=f"Pretext task {task['name']}",
                dataset_type=name,
                dataset_name=f"{name}, held-out crops",
                metric_type="accuracy",
                metric_name=f"Accuracy over {task['num_classes']} classes",
                metric_value=round(results["eval_accuracy"], 4),
            ),
        )
    own = bool(record["backbone"].get("own"))  # neither timm nor transformers can build it
    return ModelCardData(
        library_name="patchit_hf" if own else "timm",
        pipeline_tag=FEATURES_TAG,
        license=licence,
        license_name=None if licence != "other" else named,
        tags=[
            *([] if own else ["timm", "transformers"]),
            "patchit",
            *(["self-supervised"] if without_labels else []),
            "person",
        ],
        base_model=base_model(record),
        datasets=[data["name"]] if data.get("hub") and _HUB_ID.fullmatch(data["name"]) else None,
        model_name=f"{record['backbone']['name']}.patchit",
        eval_results=evaluations or None,
    )


def base_model(record: dict[str, Any]) -> str | None:
    """Return the repository of the newest initial weights that are on the Hub, if any are.

    Args:
        record: what ``patchit.json`` holds.
    """
    start = record.get("initial_weights")
    chain = [] if start is None else [start, *start["earlier"]]
    return next((entry["hub_id"] for entry in chain if entry.get("hub_id")), None)


def _render_average(record: dict[str, Any], config: dict[str, Any]) -> str:
    """Return the model card of the average of several exports."""
    sources = [
        {
            **entry,
            "short": entry["source"] if entry["hub"] else Path(entry["source"]).name,
            "crops": _data_name(entry["data"]),
            "licence": _licence(entry["data"]),
        }
        for entry in record["averaged"]
    ]
    used = record["batch_norm"]
    return render(
        "averaged.md.jinja",
        **shared(record),
        timm_config=config,
        metadata=Markdown(_average_metadata(record).to_yaml()),
        sources=sources,
        worth=section(record),
        commands=[
            command_without_folders(entry["command"] or f"# not recorded: {entry['short']}")
            for entry in sources
        ],
        estimated_on=None if used is None else _data_name({**used, "name": used["dataset"]}),
        citations=list(
            dict.fromkeys(e["data"]["citation"] for e in sources if e["data"].get("citation"))
        ),
    )


def _average_metadata(record: dict[str, Any]) -> ModelCardData:
    """Return the Hub's metadata of an average: its licence is that of all its sources.

    It is ``other`` where they differ, or did not start from random weights.
    """
    each = [
        metadata({**record, "data": {"name": "", **entry["data"]}, "task": {"name": ""}})
        for entry in record["averaged"]
    ]
    licences = {data.license for data in each}
    known = len(licences) == 1 and "seed" in record["config"]
    licence = licences.pop() if known else "other"
    named = list(dict.fromkeys(name for data in each for name in data.datasets or []))
    hub = [entry["source"] for entry in record["averaged"] if entry["hub"]]
    return ModelCardData(
        library_name="timm",
        pipeline_tag=FEATURES_TAG,
        license=licence,
        license_name=None if licence != "other" else "see-the-data-sets",
        tags=[
            *("timm", "transformers", "patchit"),
            *(
                ["self-supervised"]
                if all("self-supervised" in (e.tags or ()) for e in each)
                else []
            ),
            "person",
        ],
        datasets=named or None,
        base_model=[name.partition("@")[0].removeprefix("hf-hub:") for name in hub] or None,
        model_name=f"{record['backbone']['name']}.patchit_average",
        eval_results=for_the_hub(record) or None,
    )


def _drawing(task: str) -> str:
    """Return what the task's file says of itself: what is cut, and the classes."""
    module = import_module(f"patchit_hf.patch_tasks.{task}")
    return inspect.cleandoc(module.__doc__ or "").replace("``", "").replace("::\n", ":\n")


def _data_name(data: dict[str, Any]) -> str:
    """Return what the crops are called, as Markdown; see ``called``."""
    if data.get("rendered"):
        return "rendered people"
    return code(called(data))


def called(data: dict[str, Any]) -> str:
    """Return the name of a data set; of a folder, without the way to it."""
    return str(data["name"] if data.get("hub") else Path(data["name"]).name)


def _licence(data: dict[str, Any]) -> str:
    if data.get("rendered"):
        return "that of patchit_hf, which rendered them: Apache-2.0"
    return str(data.get("license") or "").strip() or "the data set states none"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
