"""``python -m patchit_hf.compare``."""

import sys

from patchit_hf.compare.command import main

if __name__ == "__main__":
    sys.exit(main())
