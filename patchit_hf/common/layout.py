"""Names of the files in a run folder and in an export."""

from __future__ import annotations

RUN_FILE = "run.json"
DONE_FILE = "patchit.json"
CHECKPOINTS = "checkpoints"
METRICS_FILE = "metrics.jsonl"

FORMAT_VERSION = 1
BACKBONE_FILE = "model.safetensors"
HEAD_FILE = "head.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
