"""``python -m patchit_hf.crops``."""

import sys

from patchit_hf.crops.command import main

if __name__ == "__main__":
    sys.exit(main())
