"""What is evaluated, on what."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from patchit_hf.common.arguments import arg
from patchit_hf.common.errors import InputError
from patchit_hf.data.canvas import FITS
from patchit_hf.data.decoding import DecodeArguments

PROBES = ("knn", "linear")


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments(DecodeArguments):
    """What is judged, on what."""

    model: str = arg("", "FOLDER", "model", "a folder or org/name[@revision]; see --init too")
    dataset: str | None = arg(
        None, "--dataset", "data", "as in pretraining; rendered people if left out"
    )
    split: str | None = arg(
        None, "--split", "data", "the split; test by default, else what is held out"
    )
    gallery_split: str | None = arg(
        None, "--gallery-split", "data", "re-id: the split that is searched, such as gallery"
    )
    train_split: str | None = arg(
        None, "--train-split", "data", "--probe: what it learns from; train by default"
    )
    fit: str | None = arg(  # type: ignore[assignment]
        None, "--fit", "data", "squash or cover; as it was finetuned", choices=FITS
    )
    on_bad_image: str = arg(
        "raise",
        "--on-bad-image",
        "data",
        "an image that is damaged, empty, huge or tiny: stop, or leave it out; bad_images.jsonl "
        "beside the metrics names each",
        choices=("raise", "skip"),
    )
    bootstrap: int = arg(1000, "--bootstrap", "output", "samples of the 95 % intervals; 0 for none")
    output_dir: str | None = arg(
        None, "--output-dir", "output", "where to; evaluation/ in the model's folder by default"
    )
    probe: str | None = arg(
        None, "--probe", "features", "knn, linear, or knn,linear: fit it on frozen features"
    )
    column: str | None = arg(None, "--column", "features", "--probe: the label column")
    embed: str | None = arg(
        None, "--embed", "features", "a parquet file for the embedding of every crop"
    )
    backbone: str | None = arg(
        None, "--backbone", "features", "where FOLDER is random, timm[:tag] or a weights file"
    )
    input_size: str | None = arg(None, "--input-size", "features", "height x width of the input")
    reestimate_batch_norm: bool = arg(
        True,
        "--reestimate-batch-norm",
        "features",
        "--probe, --embed: estimate batch statistics on the crops first",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole("bootstrap", 0)
        if self.probe is not None and not set(self.kinds) <= set(PROBES):
            raise InputError(f"--probe {self.probe!r}: knn, linear, or knn,linear")
        if self.probe is not None and self.column is None:
            raise InputError("--probe: needs --column, the label column")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The probes that are asked for."""
        return tuple(str(self.probe).split(","))

    def decode(self, fit: str) -> DecodeArguments:
        """Return how crops are decoded: fitted as ``--fit`` says, as ``fit`` says without it."""
        names = [item.name for item in dataclasses.fields(DecodeArguments)]
        given = {name: getattr(self, name) for name in names}
        return DecodeArguments(**{**given, "fit": self.fit or fit})
