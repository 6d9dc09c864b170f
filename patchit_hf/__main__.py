"""``python -m patchit_hf``, which is ``patchit``."""

import sys

from patchit_hf.shell.main import main

if __name__ == "__main__":
    sys.exit(main())
