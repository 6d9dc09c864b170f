"""The blocks of code of README, CONTRIBUTING and the pages of the documentation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
APART = {"CONTRIBUTING.md", "formats.md", "data-sets.md", "inputs.md"}  # have tests of their own
CODE = ("bash", "python")  # what is run; a block of another kind is shown, not run
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
SPAN = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        line: of its page, where it begins.
        language: what stands behind its fence.
        text: the code.
        why: why no test runs it; None if one does.
    """

    line: int
    language: str
    text: str
    why: str | None


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page."""
    text, found = page.read_text(encoding="utf-8"), []
    for m in BLOCK.finditer(text):
        pattern = m["language"] == "bash" and " ..." in m["text"]
        why = m["why"] or ("it leaves something out" if pattern else None)
        found.append(Block(text[: m.start()].count("\n") + 1, m["language"], m["text"], why))
    return found


def spans(page: Path) -> list[str]:
    """Return the code that stands inside the text of a page, without that of its blocks."""
    return SPAN.findall(re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S))


def commands(shell: str) -> Iterator[list[str]]:
    """Return the words of each command of a block, without variables set before it."""
    for line in shell.replace("\\\n", " ").splitlines():
        found = shlex.shlex(line, posix=True, punctuation_chars=";&")
        found.whitespace_split, words = True, []
        for word in [*(word for word in found if word != "..."), ";"]:
            if word in (";", "&&"):
                yield from [words] if words else []
                words = []
            elif words or not re.fullmatch(r"[A-Z_]+=\S*", word):
                words.append(word)


def patchit(words: list[str]) -> list[str] | None:
    """Return the words behind ``patchit``, however it is started; None for another command."""
    if words[0] == "patchit":
        return words[1:]
    if "-m" in words and words[0] in ("python", "accelerate", "torchrun"):
        place = words.index("-m") + 1
        package, _, name = words[place].partition(".")
        if package == "patchit_hf" and "." not in name:
            return [*([name] if name else []), *words[place + 1 :]]
    return None
