"""``python -m patchit_hf.bench``."""

import sys

from patchit_hf.bench.command import main

if __name__ == "__main__":
    sys.exit(main())
