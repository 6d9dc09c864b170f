"""Arguments of an evaluation: which model, and on which data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from patchit_hf.common.arguments import arg
from patchit_hf.common.endings import VECTORS, check_ending
from patchit_hf.common.errors import InputError
from patchit_hf.data.choices import FITS
from patchit_hf.data.decoding import DecodeArguments

PROBES = ("knn", "linear")


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments(DecodeArguments):
    """Which model is evaluated, and on which data."""

    model: str = arg(
        "",
        "FOLDER",
        "model",
        "a finetuned model: a folder or org/name[@revision]; with --probe or --embed also "
        "random, timm[:tag] or a .safetensors file, see --backbone",
    )
    dataset: str | None = arg(
        None, "--dataset", "data", "Hub id or folder, as in pretraining; rendered people by default"
    )
    split: str | None = arg(
        None, "--split", "data", "the split; by default test, or else the held-out crops"
    )
    gallery_split: str | None = arg(
        None, "--gallery-split", "data", "re-id: the split to search in, such as gallery"
    )
    train_split: str | None = arg(
        None, "--train-split", "data", "--probe: the split to train the probe on; train by default"
    )
    fit: str | None = arg(  # type: ignore[assignment]
        None, "--fit", "data", "squash or cover; by default as in finetuning", choices=FITS
    )
    on_bad_image: str = arg(
        "raise",
        "--on-bad-image",
        "data",
        "what to do with a damaged, empty, huge or tiny image: stop (raise), or leave it out "
        "(skip) and list it in bad_images.jsonl beside the metrics",
        choices=("raise", "skip"),
    )
    joints: list[str] = arg(
        [],
        "--joints",
        "data",
        "pose: the names of the data set's joints, in its order; by default as it states them "
        "itself, else as in finetuning",
    )
    bootstrap: int = arg(
        1000,
        "--bootstrap",
        "output",
        "bootstrap samples for the 95 % intervals; 0 for no intervals",
    )
    output_dir: str | None = arg(
        None,
        "--output-dir",
        "output",
        "output folder; evaluation/ in the model's folder by default",
    )
    probe: str | None = arg(
        None, "--probe", "features", "fit a probe on frozen features: knn, linear, or knn,linear"
    )
    column: str | None = arg(None, "--column", "features", "--probe: the label column")
    embed: str | None = arg(
        None,
        "--embed",
        "features",
        "write the embedding of every crop, of all splits or of --split, to this file: .parquet, "
        ".npy (with a .rows.csv beside it) or .csv",
    )
    backbone: str | None = arg(
        None,
        "--backbone",
        "features",
        "timm's model name, if FOLDER is random, timm[:tag] or a weights file",
    )
    input_size: str | None = arg(None, "--input-size", "features", "height x width of the input")
    reestimate_batch_norm: bool = arg(
        True,
        "--reestimate-batch-norm",
        "features",
        "--probe, --embed: re-estimate batch-norm statistics on the crops first",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole("bootstrap", 0)
        if self.probe is not None and not set(self.kinds) <= set(PROBES):
            raise InputError(f"--probe {self.probe!r}: must be knn, linear, or knn,linear")
        if self.embed is not None:
            check_ending(self.embed, VECTORS, "--embed")
        if self.probe is not None and self.column is None:
            raise InputError("--probe: needs --column, the label column")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The probes that were asked for."""
        return tuple(str(self.probe).split(","))

    def decode(self, fit: str) -> DecodeArguments:
        """Return how crops are decoded: fitted as ``--fit`` says, as ``fit`` says without it."""
        names = [item.name for item in dataclasses.fields(DecodeArguments)]
        given = {name: getattr(self, name) for name in names}
        return DecodeArguments(**{**given, "fit": self.fit or fit})
