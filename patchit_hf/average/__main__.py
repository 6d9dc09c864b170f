"""``python -m patchit_hf.average``."""

import sys

from patchit_hf.average.command import main

if __name__ == "__main__":
    sys.exit(main())
