"""``python -m patchit_hf.audit``."""

import sys

from patchit_hf.audit.command import main

if __name__ == "__main__":
    sys.exit(main())
