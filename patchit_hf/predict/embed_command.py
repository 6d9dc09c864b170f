"""Features of images by a frozen backbone: ``patchit embed RUN_OR_BACKBONE IMAGES...``."""

from __future__ import annotations

from pathlib import Path

from patchit_hf.common import cli
from patchit_hf.common.console import as_command, say
from patchit_hf.models.names import check_backbone
from patchit_hf.predict.arguments import EmbedArguments

DESCRIPTION = """\
Write the features of people by a frozen backbone, with the file of each.

  patchit embed runs/mine path/to/crops --output embeddings.parquet
  patchit embed runs/mine path/to/crops --output embeddings.npy --reestimate-batch-norm
  patchit embed resnet18 'photos/*.jpg' --output embeddings.csv
  patchit embed runs/mine video.mp4 --detections boxes.csv --every 25"""
ARGUMENTS = (EmbedArguments,)
PROG = "patchit embed"


def run(argv: list[str] | None = None) -> int:
    """Embed as the arguments say.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    (what,) = cli.parse(DESCRIPTION, argv, *ARGUMENTS, prog=PROG)
    named = not Path(what.run).exists() and not {"/", ":"} & set(what.run)
    if named and not what.run.endswith(".safetensors"):
        check_backbone(what.run, "RUN_OR_BACKBONE")
    from patchit_hf.common.progress import Progress

    with Progress("importing torch"):
        from patchit_hf.predict.embeddings import embed_given
    with Progress("embedding"):
        found = embed_given(what)
    files = found.save(what.output)
    if found.note:
        say(f"note: {found.note}")
    size = found.vectors.shape[1]
    say(f"{', '.join(map(str, files))}: {len(found):,} embeddings with {size} dimensions")
    if found.bad:
        say(f"left out: {len(found.bad):,} images or boxes that cannot be used")
    return 0


main = as_command(run, "repeat the command to start over")
