"""``python -m patchit_hf.predict``."""

import sys

from patchit_hf.predict.command import main

if __name__ == "__main__":
    sys.exit(main())
