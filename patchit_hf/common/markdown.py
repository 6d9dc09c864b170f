"""Markdown templates whose values are escaped, unless a filter says how they are meant.

A value stands for itself: no heading, link, table cell or HTML tag can come out of it. Three
filters give it a form: ``code`` in a line, ``fenced`` as a block, ``address`` as a link. What is
Markdown already (the metadata on top) is passed as ``Markdown``.
"""

from __future__ import annotations

import os
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from patchit_hf.common.shown import in_one_line, plain, redact

_SPECIAL = re.compile(r"[\\`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_ENTITY = re.compile(r"&(?=#|\w+;)")
_ADDRESS = re.compile(
    r"https?://[\w.-]+(?::\d+)?(?:/[\w./%~@:+-]*)?(?:\?[\w.%&=+-]*)?(?:#[\w.-]*)?"
)
_FENCE = 3  # backticks of a block, at least


class Markdown(str):
    """Text that is Markdown already."""


def escaped(value: Any) -> Any:
    r"""Return text as Markdown that shows just this text; what is no text stays as it is.

    Example:
        >>> escaped("<script> | **a** snake_case _b_")
        '&lt;script&gt; \\| \\*\\*a\\*\\* snake_case \\_b\\_'
    """
    if not isinstance(value, str) or isinstance(value, Markdown):
        return value
    text = _SPECIAL.sub(r"\\\g<0>", in_one_line(value))
    return Markdown(_ENTITY.sub("&amp;", text).replace("<", "&lt;").replace(">", "&gt;"))


def code(value: object) -> Markdown:
    r"""Return text as code within a line, also of a table.

    Example:
        >>> code("a`b|c")
        '``a`b\\|c``'
    """
    text = in_one_line(value).strip().replace("|", "\\|")
    ticks = "`" * (_longest_run(text) + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return Markdown(f"{ticks}{space}{text}{space}{ticks}")


def fenced(value: object, language: str = "") -> Markdown:
    """Return text as a block of code that nothing in it can end.

    Example:
        >>> print(fenced("ls", "bash"))
        ```bash
        ls
        ```
    """
    text = plain(value).strip("\n")
    ticks = "`" * max(_FENCE, _longest_run(text) + 1)
    return Markdown(f"{ticks}{language}\n{text}\n{ticks}")


def address(value: object) -> Any:
    """Return a web address as a link, anything else as text."""
    text = str(value).strip()
    return Markdown(text) if _ADDRESS.fullmatch(text) else escaped(text)


def render(template: str, **values: Any) -> str:
    r"""Fill a template.

    Args:
        template: the template's text, in Jinja's language.
        **values: everything that it names.

    Example:
        >>> render("# {{ title }}\n", title="<b>")
        '# &lt;b&gt;\n'
    """
    return redact(_compiled(template).render(**values)) + "\n"


@cache
def _compiled(template: str) -> jinja2.Template:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # that is for HTML
        finalize=escaped,
    )
    environment.filters |= {"code": code, "fenced": fenced, "address": address}
    return environment.from_string(template)


def without_folders(name: str) -> str:
    """Return the last part of a local path; a name that does not tell of a machine stays.

    Example:
        >>> without_folders("/home/me/crops"), without_folders("org/name"), without_folders("a/b")
        ('crops', 'org/name', 'a/b')
    """
    local = os.path.isabs(name) or name.startswith(("~", "..", "file://"))
    return Path(name).name or name if local else name


def command_without_folders(command: str) -> str:
    """Return a command whose paths do not tell of a machine; see ``without_folders``.

    Example:
        >>> command_without_folders("python -m x --dataset /home/me/crops --output-dir=/tmp/a")
        'python -m x --dataset crops --output-dir=a'
    """
    try:
        words = shlex.split(command)
    except ValueError:  # no command that can be typed
        return command
    shorter = []
    for word in words:
        flag, equals, value = word.partition("=")
        shorter.append(flag + equals + without_folders(value) if equals else without_folders(word))
    return shlex.join(shorter)


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
