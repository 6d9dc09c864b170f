"""Fill dataclasses from the command line or a YAML file; the dataclasses hold the only defaults."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from patchit_hf.common.arguments import choices_of, kind_of
from patchit_hf.common.config import parse_yaml, read_config, under
from patchit_hf.common.config import recipes as list_recipes
from patchit_hf.common.errors import InputError, did_you_mean
from patchit_hf.common.unknown import explain_unknown

MANY = 4  # choices, above which help lists them behind its text
TYPES = {str: "TEXT", int: "N", float: "X"}


class Parser(argparse.ArgumentParser):
    """An argument parser that reports errors in one line, and takes no shortened flags.

    Attributes:
        by_field: what argparse made of each field.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.by_field: dict[str, argparse.Action] = {}

    def error(self, message: str) -> typing.NoReturn:
        """Raise the message, which argparse would print below a list of all flags."""
        for theirs, ours in (
            ("argument ", ""),
            ("expected one argument", f"needs a value; see {self.prog} --help"),
            ("expected at least one argument", f"needs a value; see {self.prog} --help"),
            ("ignored explicit argument", "takes no value, only --X or --no-X:"),
        ):
            message = message.replace(theirs, ours, 1)
        raise InputError(message)


def parse(
    description: str,
    argv: list[str] | None,
    *classes: type[Any],
    prog: str,
    without: Sequence[str] = (),
    recipes: Path | None = None,
    recipe_for: Callable[[dict[str, Any]], str | None] = lambda values: None,
) -> tuple[Any, ...]:
    """Parse the command line into one object of each dataclass.

    Flags are shown with dashes; underscores work too. ``--config FILE.yaml`` sets the same fields,
    by flag or by field name. Values on the command line override the file, and both a recipe.

    Args:
        description: the first lines of ``--help``.
        argv: the arguments after the program's name; None for those of this process.
        *classes: dataclasses whose fields are made by ``arg``.
        prog: the program's name in ``--help``.
        without: fields that the command sets itself, and which are no flags of it.
        recipes: a folder of YAML files, of which the field ``recipe`` names one.
        recipe_for: which of them is used for given values that name none; None for none.

    Raises:
        InputError: for an unknown flag or key, or a value of the wrong type.

    Example:
        >>> from patchit_hf.evaluate.arguments import EvaluateArguments
        >>> words = ["runs/pose", "--bootstrap", "8"]
        >>> (args,) = parse("Evaluate.", words, EvaluateArguments, prog="evaluate")
        >>> args.bootstrap
        8
    """
    parser = build_parser(description, *classes, prog=prog, without=without)
    fields = fields_of(*classes, without=without)
    words = _dashed(sys.argv[1:] if argv is None else argv)
    known, unknown = parser.parse_known_intermixed_args(words)
    if unknown:
        flags = {item.metadata["flag"]: name for name, (item, _) in fields.items()}
        raise InputError(explain_unknown(unknown[0], words, _options(fields), flags, prog))
    given = {key: value for key, value in vars(known).items() if value not in (None, [])}
    config = given.pop("config", None)
    values = {**read_config(config, fields), **given} if config else given
    if recipes is not None and (name := values.get("recipe") or recipe_for(values)):
        values["recipe"] = name
        values = under(_recipe(recipes, values["recipe"], fields), values)
    for name, (item, _) in fields.items():
        if not item.metadata["flag"].startswith(("-", "[")) and not values.get(name):
            flag, help = item.metadata["flag"], item.metadata["help"]
            raise InputError(f"{flag} is needed: {help}; see {prog} --help")
    return tuple(
        cls(**{f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values})
        for cls in classes
    )


def _options(fields: dict[str, Any]) -> list[str]:
    """Return every flag of a command, with those that begin with ``--no-``."""
    options = ["--help", "--config"]
    for item, hint in fields.values():
        flag = item.metadata["flag"]
        if flag.startswith("-"):
            options += [flag, f"--no-{flag[2:]}"] if kind_of(hint) is bool else [flag]
    return options


def _recipe(folder: Path, name: str, fields: dict[str, Any]) -> dict[str, Any]:
    if name not in (known := list_recipes(folder)):
        hint = did_you_mean(name, known)
        raise InputError(f"--recipe {name!r}: must be one of {', '.join(known)}{hint}")
    return read_config(str(folder / f"{name}.yaml"), fields)


def build_parser(
    description: str, *classes: type[Any], prog: str, without: Sequence[str] = ()
) -> Parser:
    """Return the parser of a command, for its help, its completion and its reference.

    Args:
        description: the first lines of ``--help``.
        *classes: dataclasses whose fields are made by ``arg``.
        prog: the program's name in ``--help``.
        without: fields that are no flags of the command.
    """
    fields = fields_of(*classes, without=without)
    positional = [item for item, _ in fields.values() if not item.metadata["flag"].startswith("-")]
    names = [item.metadata["flag"] + "..." * _several(item) for item in positional]
    parser = Parser(
        prog=prog,
        usage=" ".join([prog, *names, "[options]"]),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    text = "YAML file with any of these flags, such as the args.yaml in a run's folder"
    parser.by_field["config"] = parser.add_argument("--config", metavar="FILE", help=text)
    groups: dict[str, Any] = {}
    for item, hint in fields.values():
        group = item.metadata["group"]
        groups.setdefault(group, parser.add_argument_group(group))
        parser.by_field[item.name] = _add(groups[group], item, hint)
    return parser


def fields_of(*classes: type[Any], without: Sequence[str] = ()) -> dict[str, Any]:
    """Return each field that is a flag, and its type, by its name."""
    fields = {}
    for cls in classes:
        hints = typing.get_type_hints(cls)
        for item in dataclasses.fields(cls):
            if item.name not in without:
                fields[item.name] = (item, hints[item.name])
    return fields


def _several(item: dataclasses.Field[Any]) -> bool:
    return isinstance(_default(item), list)


def _add(group: Any, item: dataclasses.Field[Any], hint: Any) -> Any:
    meta, kind, choices = item.metadata, kind_of(hint), choices_of(item)
    default = _default(item)
    shown = "" if default in (None, {}, [], False, "") else f" (default: {_as_text(default)})"
    text = meta["help"]
    if len(choices) > MANY:
        text = f"{text}: {', '.join(choices)}"
    options: dict[str, Any] = {
        "dest": item.name,
        "default": argparse.SUPPRESS,
        "help": (text + shown).replace("%", "%%"),
    }
    if kind is bool:
        options["action"] = argparse.BooleanOptionalAction
    elif kind is dict:
        options |= {"nargs": "*", "metavar": "KEY=VALUE", "action": _KeyValues}
    elif kind is list:
        element = typing.get_args(hint)[0]
        options |= {"nargs": "+", "action": "extend", "type": _reader(element)}
        options["metavar"] = TYPES[element]
    else:
        options |= {"type": _reader(kind, meta["words"]), "metavar": TYPES[kind]}
        if 0 < len(choices) <= MANY:
            options["metavar"] = "{" + ",".join(choices) + "}"
    if meta["flag"].startswith("-"):
        return group.add_argument(meta["flag"], **options)
    del options["dest"], options["default"]  # a positional argument
    nargs = "*" if kind is list else "?"
    return group.add_argument(
        item.name, nargs=nargs, type=str, help=options["help"], metavar=meta["flag"]
    )


def _as_text(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, list) else str(default)


class _KeyValues(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        result = dict(getattr(namespace, self.dest, {}))
        for word in values:
            key, equals, text = word.partition("=")
            if not equals or not key:
                raise InputError(f"{option} {word!r}: expected KEY=VALUE")
            result[key] = parse_yaml(text, f"{option} {word!r}") if text else text
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


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return None if item.default is dataclasses.MISSING else item.default


def _dashed(words: list[str]) -> list[str]:
    """Return the words, with dashes for the underscores of flags."""
    dashed = []
    for word in words:
        name, equals, value = word.partition("=")
        dashed.append(name.replace("_", "-") + equals + value if word.startswith("--") else word)
    return dashed
