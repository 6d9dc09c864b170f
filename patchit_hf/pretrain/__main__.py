"""``python -m patchit_hf.pretrain``."""

import sys

from patchit_hf.pretrain.command import main

if __name__ == "__main__":
    sys.exit(main())
