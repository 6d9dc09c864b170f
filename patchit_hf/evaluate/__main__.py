"""``python -m patchit_hf.evaluate``."""

import sys

from patchit_hf.evaluate.command import main

if __name__ == "__main__":
    sys.exit(main())
