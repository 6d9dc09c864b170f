"""Run the pretraining command and log which sample of which crop was cut where.

Usage: logged.py FOLDER STOP WORDS...: each process appends lines ``[sample, crop, cell, jitter y,
jitter x]`` to a file of its own in FOLDER, and asks for a stop after STOP batches (0 for none), as
a scheduler does. test_distributed starts it by a launcher.
"""

import json
import os
import signal
import sys
from pathlib import Path

from patchit_hf.patch_tasks.grid import Grid
from patchit_hf.pretrain import main


def log(folder: Path, stop: int) -> None:
    """Log what is cut for training from now on."""
    cut, done = Grid.cut, []
    file = (folder / f"{os.getpid()}.jsonl").open("a", buffering=1)

    def logged(self, crops, cells, draws):
        if draws.rows is not None:  # not an evaluation
            reach_y, reach_x = self.reach
            down = draws.integers("jitter_y", 2 * reach_y + 1) - reach_y
            right = draws.integers("jitter_x", 2 * reach_x + 1) - reach_x
            columns = (draws.numbers, draws.rows, cells, down, right)
            for line in zip(*(column.tolist() for column in columns), strict=True):
                file.write(json.dumps(line) + "\n")
            done.append(1)
            if len(done) == stop:
                os.kill(os.getpid(), signal.SIGTERM)
        return cut(self, crops, cells, draws)

    Grid.cut = logged


if __name__ == "__main__":
    log(Path(sys.argv[1]), int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
