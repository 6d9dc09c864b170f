"""What to say about a word on the command line that no command expects."""

from __future__ import annotations

from pathlib import Path

from patchit_hf.common.errors import did_you_mean

DASHES = "-\u2013\u2014\u2212"  # what word processors make of two hyphens
ELSEWHERE = {  # what other tools call it
    "lr": ("learning-rate", "learning-rates"),
    "bs": ("batch-size",),
    "batch": ("batch-size",),
    "data": ("dataset",),
    "data-dir": ("dataset", "images"),
    "data-path": ("dataset", "images"),
    "model": ("backbone", "init"),
    "model-name": ("backbone",),
    "arch": ("backbone",),
    "net": ("backbone",),
    "out": ("output-dir", "output"),
    "output": ("output-dir",),
    "output-dir": ("output",),
    "save-dir": ("output-dir", "output"),
    "num-workers": ("workers",),
    "num-epochs": ("epochs",),
    "epoch": ("epochs",),
    "steps": ("max-steps",),
    "wd": ("weight-decay",),
    "opt": ("optimizer",),
    "optim": ("optimizer",),
    "scheduler": ("schedule",),
    "pretrained": ("init",),
    "weights": ("init",),
    "checkpoint": ("init", "resume"),
    "resume-from-checkpoint": ("resume",),
    "img-size": ("canvas", "input-size"),
    "imgsz": ("canvas", "input-size"),
    "image-size": ("canvas", "input-size"),
    "size": ("canvas", "input-size"),
    "fp16": ("mixed-precision",),
    "bf16": ("mixed-precision",),
    "amp": ("mixed-precision",),
    "accumulate": ("gradient-accumulation-steps",),
    "boxes": ("detections",),
    "annotations": ("detections",),
    "license-id": ("license",),
    "licence": ("license",),
    "private": ("hub-private",),
    "repo-id": ("hub-model-id",),
}


def explain_unknown(
    word: str, words: list[str], options: list[str], flags: dict[str, str], prog: str
) -> str:
    """Return a line about a word that is no flag of a command.

    Args:
        word: the word.
        words: all that were given.
        options: the command's flags, with ``--no-`` ones.
        flags: the field's name of each flag.
        prog: the command.

    Example:
        >>> explain_unknown("--sede", ["--sede", "3"], ["--seed"], {"--seed": "seed"}, "patchit x")
        '--sede: no such flag; did you mean --seed?'
    """
    name, equals, value = word.partition("=")
    if name[0] in DASHES:
        hint = _near_flag(name, options, flags)
        return f"{name}: no such flag{hint or f'; see {prog} --help'}"
    if equals:
        hint = _near_flag(name, options, flags)
        if hint:
            return f"{word!r}: flags begin with two dashes{hint.removesuffix('?')} {value}?"
    before = words[words.index(word) - 1] if word in words[1:] else ""
    if f"--no-{before[2:]}" in options:
        return f"{before} {word!r}: takes no value; --no-{before[2:]} turns it off"
    if "--dataset" in options and Path(word).is_dir():
        return f"{word!r}: not expected here; did you mean --dataset {word}?"
    more = " (a value with spaces needs quotes)" if before and before[0] != "-" else ""
    return f"{word!r}: not expected here{more}; see {prog} --help"


def _near_flag(name: str, options: list[str], flags: dict[str, str]) -> str:
    bare = name.strip(DASHES).replace("_", "-").lower()
    if f"--{bare}" in options:
        return f"; did you mean --{bare}?"
    for other in ELSEWHERE.get(bare, ()):
        if f"--{other}" in options:
            return f"; did you mean --{other}?"
    by_field = {f"--{field.replace('_', '-')}": flag for flag, field in flags.items()}
    found = did_you_mean(f"--{bare}", [*options, *by_field])
    near = found.removeprefix("; did you mean ").removesuffix("?")
    return f"; did you mean {by_field[near]}?" if near in by_field else found
