"""What a finetuned model says about images: ``patchit predict RUN IMAGES...``."""

from __future__ import annotations

import json
import sys

from patchit_hf.common import cli
from patchit_hf.common.console import as_command, say
from patchit_hf.predict.arguments import PredictArguments

DESCRIPTION = """\
Let a finetuned model look at people: attributes, actions, joints in pixels, or embeddings.

  patchit predict runs/attributes-people photo.jpg
  patchit predict runs/attributes-people crops/ --output found.parquet --draw drawn/
  patchit predict runs/pose-people 'photos/*.jpg' --output found.json
  patchit predict runs/pose-people frames/ --detections boxes.json --draw drawn/"""
ARGUMENTS = (PredictArguments,)
PROG = "patchit predict"


def run(argv: list[str] | None = None) -> int:
    """Predict as the arguments say.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    (what,) = cli.parse(DESCRIPTION, argv, *ARGUMENTS, prog=PROG)
    from patchit_hf.common.progress import Progress

    with Progress("importing torch"):
        from patchit_hf.predict.predictions import predict_given
    with Progress("predicting"):
        found = predict_given(what)
    if what.output is None:
        for answer in found:
            sys.stdout.write(json.dumps(answer.record(), ensure_ascii=False) + "\n")
    else:
        files = found.save(what.output)
        say(f"{', '.join(map(str, files))}: {len(found):,} people")
    if what.draw is not None:
        say(f"{what.draw}: {found.drawn:,} images")
    if found.bad:
        say(f"left out: {len(found.bad):,} images or boxes that cannot be used")
    return 0


main = as_command(run, "repeat the command to start over")
