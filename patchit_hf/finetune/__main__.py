"""``python -m patchit_hf.finetune``."""

import sys

from patchit_hf.finetune.command import main

if __name__ == "__main__":
    sys.exit(main())
