"""Arguments in a YAML file: what ``--config`` reads, and the ``args.yaml`` in a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from patchit_hf.common.arguments import kind_of
from patchit_hf.common.errors import InputError, did_you_mean, did_you_mean_file, one_line
from patchit_hf.common.files import write_text
from patchit_hf.common.layout import ARGS_FILE
from patchit_hf.common.shown import redact


def write_args(folder: Path, values: dict[str, Any], prog: str) -> Path:
    """Write the arguments of a command into its folder as ``args.yaml``.

    Args:
        folder: exists already.
        values: each argument by its flag without dashes, as ``arguments.stated`` returns them.
        prog: the command that takes the file, such as ``patchit pretrain``.

    Returns:
        The file.

    Example:
        >>> import tempfile
        >>> file = write_args(Path(tempfile.mkdtemp()), {"seed": 42}, "patchit pretrain")
        >>> print(file.read_text().splitlines()[-1])
        seed: 42
    """
    write_text(folder / ARGS_FILE, _args_text(values, prog))
    return folder / ARGS_FILE


def are_args_of(folder: Path, values: dict[str, Any], prog: str) -> bool:
    """Whether a folder's ``args.yaml`` holds these arguments, all of them; see ``write_args``."""
    try:
        there = parse_yaml((folder / ARGS_FILE).read_text(encoding="utf-8"), ARGS_FILE)
    except (OSError, ValueError, InputError):
        return False
    return bool(there == parse_yaml(_args_text(values, prog), ARGS_FILE))


def _args_text(values: dict[str, Any], prog: str) -> str:
    import yaml

    head = f"# to do the same again: {prog} --config {ARGS_FILE}\n"
    return redact(head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML; nothing in it can run.

    Args:
        text: the YAML.
        where: what the error names.

    Raises:
        InputError: if it is not valid, or nested too deeply.

    Example:
        >>> parse_yaml("a: [1, x]", "--config 'a.yaml'")
        {'a': [1, 'x']}
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except RecursionError as error:
        raise InputError(f"{where}: its values are nested too deeply") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:  # 2020-99-99, {{}: 1}
        raise InputError(f"{where}: is not valid YAML: {one_line(error)}") from error


def read_config(path: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Read a file of arguments.

    Args:
        path: the file.
        fields: each field that may be set, and its type, by name.

    Returns:
        The values by field.

    Raises:
        InputError: for a file, key or value that cannot be.
    """
    from patchit_hf.common.text import read_yaml

    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"--config {path!r}: no such file{did_you_mean_file(file)}")
    try:
        loaded = read_yaml(file)
    except InputError as error:
        raise InputError(f"--config {error}") from error
    if not isinstance(loaded, dict):
        raise InputError(f"--config {path!r}: must contain KEY: VALUE lines")
    by_flag = {item.metadata["flag"].lstrip("-"): name for name, (item, _) in fields.items()}
    values = {}
    for key, value in loaded.items():
        name = by_flag.get(str(key).replace("_", "-"), str(key))
        if name not in fields:
            hint = did_you_mean(str(key), [*by_flag, *fields])
            raise InputError(f"--config {path!r}: unknown key {key!r}{hint}")
        if value in fields[name][0].metadata["words"]:
            values[name] = value
        elif value is not None:
            values[name] = _checked(path, key, value, fields[name][1])
    return values


def recipes(folder: Path) -> list[str]:
    """Return the names of the recipes in a folder: YAML files as ``--config`` reads them."""
    return sorted(file.stem for file in folder.glob("*.yaml"))


def under(recipe: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe where none is given; options in KEY=VALUE are joined.

    Example:
        >>> under({"task": "octaves", "task_kwargs": {"joins": 4}}, {"task_kwargs": {"light": 0}})
        {'task': 'octaves', 'task_kwargs': {'joins': 4, 'light': 0}}
    """
    joined = {
        name: {**recipe[name], **value}
        for name, value in values.items()
        if isinstance(value, dict) and isinstance(recipe.get(name), dict)
    }
    return {**recipe, **values, **joined}


def _checked(path: str, key: str, value: Any, hint: Any) -> Any:
    kind = kind_of(hint)
    if kind is float and isinstance(value, str | int) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as a string
        except ValueError:
            pass
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise InputError(f"--config {path!r}: {key}: {value!r} must be of type {kind.__name__}")
