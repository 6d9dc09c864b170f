"""A finetuned model, judged on a labelled split by one call."""

from __future__ import annotations

from pathlib import Path

import datasets

from patchit_hf.common.errors import InputError
from patchit_hf.data.decoding import DecodeArguments
from patchit_hf.evaluate.scores import Evaluation, open_judged, score, searched
from patchit_hf.models.finetuned_model import FinetunedModel
from patchit_hf.training.accelerator import device


def evaluate(
    model: str | Path | FinetunedModel,
    dataset: str | Path | datasets.Dataset | None = None,
    *,
    split: str | None = None,
    gallery: str | datasets.Dataset | None = None,
    bootstrap: int = 1000,
    image_column: str | None = None,
    joints: list[str] | None = None,
    fit: str | None = None,
    on_bad_image: str = "raise",
    crop_cache_gb: float = 8.0,
    verify_cache: bool = False,
    dataloader_num_workers: int = 2,
    allow_urls: bool = False,
) -> Evaluation:
    """Measure a finetuned model on a labelled split: ``patchit evaluate`` in Python.

    Args:
        model: a folder, ``org/name[@revision]`` on the Hub, or a model that is loaded; a model
            that is loaded stays where it is, others go to Accelerate's device.
        dataset: a Hub id, a folder, or a ``datasets.Dataset``, which is the split itself; rendered
            people by default.
        split: the name of the split; ``test`` by default, else what is held out. For
            re-identification without ``test``, it is ``query``, which is searched in ``gallery``,
            if there are both.
        gallery: for re-identification, the split that is searched, by its name or as a
            ``datasets.Dataset``; the split itself by default.
        bootstrap: samples of the 95 % intervals; 0 for none.
        image_column: the image column; found by itself where there is only one.
        joints: for pose, the names of the data set's joints in its order, if it does not state
            them and they are not those of finetuning.
        fit: how images get to the canvas, ``squash`` or ``cover``; as it was finetuned by default.
        on_bad_image: ``raise``, or ``skip`` to leave bad images out.
        crop_cache_gb: decoded crops are kept on disk up to this size.
        verify_cache: whether to compare every cached crop with its checksum first.
        dataloader_num_workers: threads or processes that decode.
        allow_urls: also read images that the data set names by addresses.

    Returns:
        Metrics, their intervals, a table, and the predictions of each row.

    Raises:
        InputError: for a model, split or column that is not there, or labels of another kind.

    Example:
        ::

            result = evaluate("runs/attributes-people", "path/to/crops", split="test")
            print(result.metrics["map"], result.intervals["map"])
            result.save("runs/attributes-people/evaluation/test")
    """
    loaded = model if isinstance(model, FinetunedModel) else FinetunedModel.from_pretrained(model)
    if loaded is not model:
        loaded.to(device())
    in_names = loaded.task.people_in_names
    args = DecodeArguments(
        fit=fit or loaded.fit,
        image_column=image_column,
        on_bad_image=on_bad_image,
        crop_cache_gb=crop_cache_gb,
        verify_cache=verify_cache,
        dataloader_num_workers=dataloader_num_workers,
    )
    if isinstance(dataset, datasets.Dataset):
        if split is not None:
            raise InputError(f"split {split!r}: the data set is the split itself")
        source: str | None = "data set"
        chosen, name = dataset, "data set"
    else:
        source = None if dataset is None else str(dataset)
        if in_names and split is None and gallery is None:
            split, gallery = searched(source, image_column, allow_urls=allow_urls)
        chosen, name = open_judged(
            source, split, image_column, people_in_names=in_names, allow_urls=allow_urls
        )
    others = gallery
    if isinstance(gallery, str):
        if isinstance(dataset, datasets.Dataset):
            raise InputError(f"gallery {gallery!r}: give a datasets.Dataset, as the data set is")
        others, _ = open_judged(
            source, gallery, image_column, people_in_names=in_names, allow_urls=allow_urls
        )
    return score(
        loaded,
        chosen,
        args,
        name=name,
        model_name="a model in memory" if loaded is model else str(model),
        gallery=others,
        joints=joints,
        samples=bootstrap,
        note=None if split else _note(loaded, source, name),
    )


def _note(model: FinetunedModel, dataset: str | None, name: str) -> str | None:
    """Say so where the weights were chosen on the very crops that judge them."""
    about = getattr(model, "record", {}).get("data", {})
    chosen_on = about.get("validated_on")
    if (dataset or "people") == about.get("name") and chosen_on and chosen_on in name:
        return "the weights were chosen on these crops; a test split is a fairer measure"
    return None
