"""Arguments of ``patchit figures``."""

from __future__ import annotations

from dataclasses import dataclass

from patchit_hf.common.arguments import arg
from patchit_hf.data.decoding import DecodeArguments

FORMATS = ("png", "pdf", "svg")
STYLES = ("report", "paper")
MAPS = ("pca", "tsne", "umap")


@dataclass(frozen=True, kw_only=True)
class FiguresArguments(DecodeArguments):
    """Whose figures are drawn, and how."""

    run: str = arg("", "RUN", "run", "a finished run: a folder or org/name[@revision]")
    dataset: str | None = arg(
        None, "--dataset", "data", "crops to draw with; by default the run's own, held out"
    )
    split: str | None = arg(None, "--split", "data", "split of --dataset")
    count: int = arg(300, "--max-eval-crops", "data", "crops that are looked at")
    format: str = arg("png", "--format", "output", "kind of file", choices=FORMATS)
    style: str = arg(
        "report",
        "--style",
        "output",
        "report: wide, with title and note; paper: as wide as a column (3.35 inches), letters of "
        "8 points, no title",
        choices=STYLES,
    )
    map: str = arg(
        "pca", "--map", "output", "how embeddings are laid out; umap needs umap-learn", choices=MAPS
    )
    output: str | None = arg(
        None, "--output", "output", "folder; figures/ in the run's, or figures-paper/, by default"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole("count", 3)
