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
HEAD_FILE = "head.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
