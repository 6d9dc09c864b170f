"""Names of the files in a run folder and in an export."""

from __future__ import annotations

RUN_FILE = "run.json"
DONE_FILE = "patchit.json"
CHECKPOINTS = "checkpoints"
METRICS_FILE = "metrics.jsonl"
ARGS_FILE = "args.yaml"  # what --config takes back

CHECKPOINT_FILES = ("state.json", "model.safetensors", "optimizer.pt")
SUMS_FILE = "SHA256SUMS"  # of a checkpoint's files

FORMAT_VERSION = 1
BACKBONE_FILE = "model.safetensors"
HEAD_FILE = "head/model.safetensors"  # timm 1.0.16 to 1.0.28 fail on two files beside each other
EARLIER_HEAD_FILE = "head.safetensors"  # of exports before 0.2
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
COMPARISON_FILE = "compare.json"  # of ``patchit compare``
