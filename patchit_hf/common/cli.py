"""Fill dataclasses from the command line or a YAML file; the dataclasses hold the only defaults."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from patchit_hf.common.errors import InputError, one_line

T = TypeVar("T")


class _Parser(argparse.ArgumentParser):
    """An argument parser that reports errors in one line."""

    def error(self, message: str) -> typing.NoReturn:
        raise InputError(message.removeprefix("argument "))


def parse(
    description: str, argv: list[str] | None, *classes: type[Any], prog: str
) -> tuple[Any, ...]:
    """Parse the command line into one object of each dataclass.

    Flags are shown with dashes; underscores work too. ``--config FILE.yaml`` sets the same fields,
    by flag or by field name. Values on the command line override the file.

    Args:
        description: the first lines of ``--help``.
        argv: the arguments after the program's name; None for those of this process.
        *classes: dataclasses whose fields are made by ``arg``.
        prog: the program's name in ``--help``.

    Raises:
        InputError: for an unknown flag or key, or a value of the wrong type.

    Example:
        >>> from patchit_hf.evaluate.arguments import EvaluateArguments
        >>> words = ["runs/pose", "--bootstrap", "8"]
        >>> (args,) = parse("Evaluate.", words, EvaluateArguments, prog="evaluate")
        >>> args.bootstrap
        8
    """
    parser = _Parser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of these flags")
    groups: dict[str, Any] = {}
    fields = {}
    for cls in classes:
        hints = typing.get_type_hints(cls)
        for item in dataclasses.fields(cls):
            fields[item.name] = (item, hints[item.name])
            group = item.metadata["group"]
            groups.setdefault(group, parser.add_argument_group(group))
            _add(groups[group], item, hints[item.name])
    given = vars(parser.parse_args(_dashed(argv)))
    config = given.pop("config", None)
    values = {**_read_config(config, fields), **given} if config else given
    return tuple(
        cls(**{f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values})
        for cls in classes
    )


def _add(group: Any, item: dataclasses.Field[Any], hint: Any) -> None:
    meta = item.metadata
    default = _default(item)
    shown = "" if default in (None, {}, [], False) else f" (default: {_as_text(default)})"
    options: dict[str, Any] = {
        "dest": item.name,
        "default": argparse.SUPPRESS,
        "help": (meta["help"] + shown).replace("%", "%%"),
    }
    kind = _kind(hint)
    if kind is bool:
        options["action"] = argparse.BooleanOptionalAction
    elif kind is dict:
        options |= {"nargs": "*", "metavar": "KEY=VALUE", "action": _KeyValues}
    elif kind is list:
        element = typing.get_args(hint)[0]
        options |= {"nargs": "+", "action": "extend", "type": _reader(element)}
        options["metavar"] = element.__name__.upper()
    else:
        options |= {"type": _reader(kind, meta["words"]), "metavar": kind.__name__.upper()}
        if meta["choices"]:
            options |= {"metavar": "{" + ",".join(meta["choices"]) + "}"}
    if not meta["flag"].startswith("-"):  # a positional argument
        del options["dest"]
        group.add_argument(item.name, **{**options, "metavar": meta["flag"]})
        return
    group.add_argument(meta["flag"], **options)


def _as_text(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, list) else str(default)


class _KeyValues(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        result = dict(getattr(namespace, self.dest, {}))
        for word in values:
            key, equals, text = word.partition("=")
            if not equals or not key:
                raise InputError(f"{option} {word!r}: expected KEY=VALUE")
            result[key] = yaml.safe_load(text) if text else text
        setattr(namespace, self.dest, result)


def _reader(kind: type[Any], words: tuple[str, ...] = ()) -> Any:
    def read(text: str) -> Any:
        if text in words:
            return text
        try:
            return kind(text)
        except ValueError as error:
            wanted = "a whole number" if kind is int else "a number"
            wanted += "".join(f" or {word}" for word in words)
            raise argparse.ArgumentTypeError(f"{text!r}: must be {wanted}") from error

    return read


def _kind(hint: Any) -> type[Any]:
    """Return the type behind ``X | None`` and ``dict[...]``."""
    if isinstance(hint, types.UnionType):
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
    kind: type[Any] = typing.get_origin(hint) or hint
    return kind


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return None if item.default is dataclasses.MISSING else item.default


def _dashed(argv: list[str] | None) -> list[str]:
    import sys

    words = sys.argv[1:] if argv is None else argv
    dashed = []
    for word in words:
        name, equals, value = word.partition("=")
        dashed.append(name.replace("_", "-") + equals + value if word.startswith("--") else word)
    return dashed


def _read_config(path: str, fields: dict[str, Any]) -> dict[str, Any]:
    file = Path(path)
    if not file.is_file():
        raise InputError(f"--config {path!r}: no such file")
    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path!r}: {one_line(error)}") from error
    if not isinstance(loaded, dict):
        raise InputError(f"--config {path!r}: must contain KEY: VALUE lines")
    by_flag = {item.metadata["flag"].lstrip("-"): name for name, (item, _) in fields.items()}
    values = {}
    for key, value in loaded.items():
        name = by_flag.get(str(key).replace("_", "-"), str(key))
        if name not in fields:
            near = difflib.get_close_matches(str(key), [*by_flag, *fields], 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"--config {path!r}: unknown key {key!r}{hint}")
        allowed = value in fields[name][0].metadata["words"]
        kind = str if allowed else _kind(fields[name][1])
        values[name] = _config_value(path, key, value, kind)
    return values


def _config_value(path: str, key: str, value: Any, kind: type[Any]) -> Any:
    if kind is float and isinstance(value, str | int) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as a string
        except ValueError:
            pass
    if value is None or (isinstance(value, kind) and not (kind is int and value is True)):
        return value
    raise InputError(f"--config {path!r}: {key}: {value!r} must be of type {kind.__name__}")
