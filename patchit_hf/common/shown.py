"""Text from elsewhere made safe to show: without terminal escapes, without secrets.

Names, licences and columns of a data set, and other libraries' messages, are somebody else's text.
"""

from __future__ import annotations

import os
import re

HIDDEN = "***"  # what stands for a secret
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
SHORTEST = 8  # characters of a token that is looked for literally

# sequences that a terminal obeys: CSI (colours, cursor), OSC (titles, links, clipboard), and others
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]P_^X]|[\x90\x98\x9d-\x9f]).*?(?:\x07|\x1b\\|\x9c|$)"
    r"|\x1b[ -/]*[0-~]?",
    re.DOTALL,
)
# other control characters, and those that reverse the direction of writing
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_BREAKS = re.compile(r"[\r\n\x0b\x0c\x85\u2028\u2029]+")

_HUB_TOKEN = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}")
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@'\"]+@")  # user:password@
_IN_QUERY = re.compile(
    r"([?&;](?:[\w.-]*(?:token|secret|password|passwd|signature|credential|api_?key)|sig|key|auth)"
    r"=)[^&#\s'\"]+",
    re.IGNORECASE,
)


def plain(text: object) -> str:
    r"""Return text without what a terminal would obey instead of showing; line breaks stay.

    Example:
        >>> plain("\x1b[31mred\x1b[0m, \x1b]0;title\x07one\x08\ttwo")
        'red, one\ttwo'
    """
    shown = _ESCAPES.sub("", str(text))
    return _CONTROLS.sub("", shown)


def in_one_line(text: object) -> str:
    r"""Return plain text on one line; line breaks become spaces.

    Example:
        >>> in_one_line("one\r\ntwo")
        'one two'
    """
    return plain(_BREAKS.sub(" ", str(text)))


def redact(text: str) -> str:
    """Return text with tokens of the Hub, and passwords and tokens in addresses, hidden.

    Example:
        >>> redact("https://me:secret@host/x.zip?token=abc&page=2 hf_abcdefghijklmnopqrst")
        'https://***@host/x.zip?token=***&page=2 ***'
    """
    for variable in TOKEN_VARIABLES:
        token = os.environ.get(variable, "")
        if len(token) >= SHORTEST:
            text = text.replace(token, HIDDEN)
    text = _HUB_TOKEN.sub(HIDDEN, text)
    text = _IN_ADDRESS.sub(f"{HIDDEN}@", text)
    return _IN_QUERY.sub(rf"\g<1>{HIDDEN}", text)


def shown(text: object) -> str:
    """Return text as it may be shown anywhere: plain, and without secrets."""
    return redact(plain(text))
