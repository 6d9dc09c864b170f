"""What the site takes from elsewhere, as hooks of MkDocs.

The pages of the commands and of the fields are made from the dataclasses that hold the flags; the
options of the tasks from the tasks; README, CONTRIBUTING, CHANGELOG and the benchmarks are pages of
the site, too. Links to files that are no pages lead to the repository, or are plain text while
``repo_url`` is not set.
"""

from __future__ import annotations

import dataclasses
import inspect
import posixpath
import re
import typing
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from patchit_hf import downstream, patch_tasks
from patchit_hf.common.arguments import choices_of, kind_of
from patchit_hf.common.cli import fields_of
from patchit_hf.shell.commands import COMMANDS, Command

ROOT = Path(__file__).parents[2]
COPIED = {  # pages of the site that lie elsewhere in the repository
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "benchmarks.md": "benchmarks/README.md",
}
TO_COME: set[str] = set()  # pages that the navigation names before they are there
TYPES = {str: "text", int: "whole number", float: "number", bool: "yes/no", dict: "KEY=VALUE ..."}
SPAN = re.compile(r"`([^`]+)`(?!\{)")
LONG = 45  # characters of a path, above which it is not shown
SHORT = 28  # characters of a word of code, up to which it does not break
SHORT_WORDS = 18  # the same for several words
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the commands into the navigation, and leave out pages that are still to come."""
    for section in config.nav:
        for name, entries in section.items() if isinstance(section, dict) else ():
            if isinstance(entries, list):
                section[name] = [e for e in entries if not _missing(e, Path(config.docs_dir))]
        for entry in section.get("Reference", []) if isinstance(section, dict) else []:
            if "Commands" in entry:
                entry["Commands"] += [{c.name: f"commands/{c.name}.md"} for c in COMMANDS]
    return config


def _missing(entry: dict[str, Any], docs: Path) -> bool:
    """Whether an entry of the navigation is a page to come that is not there yet."""
    (page,) = entry.values()
    return isinstance(page, str) and page in TO_COME and not (docs / page).exists()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated and the copied pages."""
    pages = {name: (ROOT / source).read_text("utf-8") for name, source in COPIED.items()}
    pages |= {f"commands/{command.name}.md": command_page(command) for command in COMMANDS}
    pages["fields.md"] = fields_page()
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the options of the tasks, and lead links to where their files are on the site."""
    markdown = markdown.replace("<!-- generated: task options -->", task_options())
    source = COPIED.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    pages = {origin: name for name, origin in COPIED.items()}

    def change(text: str) -> str:
        text = LINK.sub(lambda found: _link(found, source, page, pages, files, config), text)
        text = SPAN.sub(_unbroken, text)
        return text.replace(" ± ", "\u00a0±\u00a0")  # a number stays with its deviation

    return outside_code(markdown, change)


def outside_code(markdown: str, change: typing.Callable[[str], str]) -> str:
    """Change a text everywhere but in its blocks of code."""
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else change(part) for part in parts)


def _unbroken(found: re.Match[str]) -> str:
    """Return code that does not break, if it is short."""
    limit = SHORT_WORDS if " " in found[1] else SHORT
    short = len(found[1]) <= limit and "\n" not in found[1]
    return f"{found[0]}{{ .short }}" if short else found[0]


def _link(
    found: re.Match[str],
    source: str,
    page: Page,
    pages: dict[str, str],
    files: Files,
    config: MkDocsConfig,
) -> str:
    image, text, target = found.groups()
    if re.match(r"[a-z]+:|#|/", target):
        return found[0]
    path, mark, anchor = target.partition("#")
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    name = pages.get(wanted, wanted.removeprefix("docs/") if wanted.startswith("docs/") else "")
    if name and files.get_file_from_path(name):
        here = posixpath.dirname(page.file.src_uri)
        return f"{image}[{text}]({posixpath.relpath(name, here or '.')}{mark}{anchor})"
    if not (ROOT / wanted).exists():
        raise FileNotFoundError(f"{source}: a link to {target}, which is not there")
    if config.repo_url:
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{wanted})"
    named = text.strip("`") in (wanted, posixpath.basename(wanted)) or len(wanted) > LONG
    if named:
        return text
    before = found.string[: found.start()].rpartition("\n\n")[2]
    inside = before.count("(") > before.count(")")  # no brackets in brackets
    return f"{text}: `{wanted}`" if inside else f"{text} (`{wanted}`)"


def command_page(command: Command) -> str:
    """Return a command's page: its description, and a table of flags for each group."""
    module = command.load()
    description, _, rest = module.DESCRIPTION.partition("\n\n")
    fields = fields_of(*module.ARGUMENTS, without=getattr(module, "WITHOUT", ()))
    groups: dict[str, list[str]] = {}
    for item, _ in fields.values():
        row = f"| {_flag(item)} | {_default(item)} | {_what(item)} |"
        groups.setdefault(item.metadata["group"], []).append(row)
    lines = [f"# patchit {command.name}", "", description, ""]
    if rest:
        lines += ["```text", *(line.rstrip() for line in rest.splitlines()), "```", ""]
    lines += ["`--config FILE` reads any of these flags from a YAML file, such as the `args.yaml` "]
    lines += ["in a run's folder; flags on the command line override it.", ""]
    for group, rows in groups.items():
        lines += [
            f"## {group.capitalize()}",
            "",
            "| flag | default | what it does |",
            "|---|---|---|",
        ]
        lines += [*rows, ""]
    return "\n".join(lines)


def fields_page() -> str:
    """Return the table of flags and fields: which field of which dataclass a flag sets."""
    lines = ["# Flags and fields", ""]
    lines += [
        "Each flag is a field of a dataclass, which is how Python takes it: `--batch-size 64`"
    ]
    lines += ["is `TrainingArguments(train_batch_size=64)`. In a YAML file for `--config`, both"]
    lines += [
        "names work. A field *decides the weights* if a run continues only with the same value."
    ]
    seen: dict[type[Any], list[str]] = {}
    for command in COMMANDS:
        for cls in command.load().ARGUMENTS:
            seen.setdefault(cls, []).append(command.name)
    for cls, names in seen.items():
        used = ", ".join(f"[`{name}`](commands/{name}.md)" for name in names)
        lines += [
            "",
            f"## {cls.__name__}",
            "",
            f"`{cls.__module__}.{cls.__name__}`; used by {used}.",
        ]
        lines += [
            "",
            "| flag | field | type | default | decides the weights |",
            "|---|---|---|---|---|",
        ]
        hints = typing.get_type_hints(cls)
        for item in dataclasses.fields(cls):
            kind = TYPES.get(kind_of(hints[item.name]), "list")
            decides = "yes" if item.metadata["identity"] else ""
            lines.append(
                f"| {_flag(item)} | `{item.name}` | {kind} | {_default(item)} | {decides} |"
            )
    return "\n".join(lines) + "\n"


def task_options() -> str:
    """Return a table of options for each task: its name, and each option with its default."""
    lines = ["| `--task` | options and their defaults |", "|---|---|"]
    for name in patch_tasks.list_tasks():
        kwargs = patch_tasks.create_task(name).kwargs
        lines.append(f"| `{name}` | {_options(kwargs)} |")
    for name in downstream.list_downstream():
        known = inspect.signature(downstream.task_class(name).from_dataset).parameters
        kwargs = {key: p.default for key, p in known.items() if p.kind == p.KEYWORD_ONLY}
        lines.append(f"| `{name}` | {_options(kwargs)} |")
    return "\n".join(lines)


def _options(kwargs: dict[str, Any]) -> str:
    return " ".join(f"`{key}={_text(value)}`" for key, value in sorted(kwargs.items())) or "none"


def _text(value: Any) -> str:
    """Return a value as the command line takes it."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _flag(item: dataclasses.Field[Any]) -> str:
    return f"`{item.metadata['flag']}`"


def _default(item: dataclasses.Field[Any]) -> str:
    if item.default_factory is not dataclasses.MISSING:
        value = item.default_factory()
    else:
        value = None if item.default is dataclasses.MISSING else item.default
    if value in (None, "", {}, []):
        return ""
    return f"`{' '.join(map(str, value)) if isinstance(value, list) else _text(value)}`"


def _what(item: dataclasses.Field[Any]) -> str:
    text = item.metadata["help"].replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
    choices = choices_of(item)
    if choices:
        text += f" ({', '.join(f'`{choice}`' for choice in choices)})"
    if item.default is True:
        text += f" (`--no-{item.metadata['flag'].lstrip('-')}` turns it off)"
    return text
