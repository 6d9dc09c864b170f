"""Read text that people bring: UTF-8 with or without a byte order mark, any line ends, tabs.

Whatever reads a file that the package did not write itself reads it here.
"""

from __future__ import annotations

import codecs
import configparser
import json
from pathlib import Path
from typing import Any

from patchit_hf.common.errors import InputError, one_line

MARKS = (  # the longer first: the UTF-32 mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(start: bytes) -> str:
    """Return the encoding of a text by its first bytes: UTF-16 or 32 if marked so, else UTF-8.

    Example:
        >>> encoding_of("a".encode("utf-16")), encoding_of(b"a")
        ('utf-16', 'utf-8-sig')
    """
    return next((name for mark, name in MARKS if start.startswith(mark)), "utf-8-sig")


def read_text(path: str | Path) -> str:
    r"""Return the text of a file, without its byte order mark and with ``\n`` as line ends.

    Raises:
        InputError: if the file cannot be read, or is not UTF-8 (nor marked as UTF-16 or 32).

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.txt"
        >>> _ = file.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
        >>> read_text(file)
        'one\ntwo\n'
    """
    try:
        content = Path(path).read_bytes()
        text = content.decode(encoding_of(content))
    except UnicodeError as error:
        why = getattr(error, "reason", None) or one_line(error)
        raise InputError(f"{path}: is not UTF-8 text: {why}; save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: str | Path) -> list[str]:
    r"""Return the lines of a file; see ``read_text``. Only ``\n``, ``\r\n`` and ``\r`` end a line.

    Raises:
        InputError: as ``read_text``.
    """
    lines = read_text(path).split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def text_start(path: str | Path, size: int = 65536) -> str:
    """Return the beginning of a file as text, with marks for what is not text.

    Args:
        path: the file.
        size: number of bytes.

    Raises:
        InputError: if the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            start = file.read(size)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from error
    text = start.decode(encoding_of(start), errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json_value(path: str | Path) -> Any:
    """Return any JSON value of a file; see ``read_text``.

    Raises:
        InputError: if the file is damaged or no text.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is damaged: {one_line(error)}") from error


def read_yaml(path: str | Path) -> Any:
    r"""Return the content of a YAML file; see ``read_text``. Tabs count as indentation of two.

    YAML itself allows no tabs there, but editors write them.

    Raises:
        InputError: if the file is damaged or no text.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "data.yaml"
        >>> _ = file.write_text("names:\n\t- person\n")
        >>> read_yaml(file)
        {'names': ['person']}
    """
    import yaml  # here, so that --help starts fast

    text = read_text(path)
    try:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            if "\t" not in text:
                raise
            return yaml.safe_load(text.expandtabs(2))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not YAML: {one_line(error)}") from error


def read_ini(path: str | Path) -> configparser.ConfigParser:
    """Return the content of an INI file; see ``read_text``. Percent signs stand for themselves.

    Raises:
        InputError: if the file is damaged or no text.
    """
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(read_text(path))
    except configparser.Error as error:
        raise InputError(f"{path}: is damaged: {one_line(error)}") from error
    return parser
