"""Text from elsewhere: no escapes, no secrets, no Markdown of its own."""

import io
import json
import logging
import sys

import pytest

from patchit_hf.common.console import guarded, say
from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.files import write_json, write_lines
from patchit_hf.common.markdown import (
    Markdown,
    address,
    code,
    command_without_folders,
    fenced,
    render,
)
from patchit_hf.common.provenance import command
from patchit_hf.common.shown import in_one_line, plain, redact
from patchit_hf.training.run_folder import RunFolder

ESCAPES = {
    "\x1b[31mred\x1b[0m": "red",
    "\x1b]8;;http://evil\x1b\\link\x1b]8;;\x07": "link",
    "\x1b]52;c;cm0gLXJm\x07copied": "copied",
    "\x9b2Jgone\x1bc": "gone",
    "a\x00b\x08c\x7f\u202ed\tz": "abcd\tz",
    "unfinished \x1b]0;title": "unfinished ",
    "caf\u00e9 \u4eba \U0001f600": "caf\u00e9 \u4eba \U0001f600",
}
TOKEN = "hf_" + "aB3dE6gH9j" * 3
SECRETS = {
    f"--x {TOKEN} y": "--x *** y",
    "https://me:pa:ss@host/a@b": "https://***@host/a@b",
    "s3://key@bucket/x": "s3://***@bucket/x",
    "http://h/x?a=1&access_token=q&X-Amz-Signature=z#f": (
        "http://h/x?a=1&access_token=***&X-Amz-Signature=***#f"
    ),
    "org/name@main and me@mail.org": "org/name@main and me@mail.org",
    "hf_hub_download hf-hub:org/hf_model": "hf_hub_download hf-hub:org/hf_model",
}


@pytest.mark.parametrize(("text", "wanted"), ESCAPES.items())
def test_escapes_are_stripped(text, wanted):
    assert plain(text) == wanted
    assert one_line(ValueError(text)) == " ".join(wanted.split())
    assert str(InputError(text)) == wanted


def test_a_message_has_one_line():
    assert in_one_line("a\r\nb\u2028c\x85d") == "a b c d"
    assert str(InputError("column 'a\nerror: b'")) == "column 'a error: b'"


@pytest.mark.parametrize(("text", "wanted"), SECRETS.items())
def test_secrets_are_hidden(text, wanted):
    assert redact(text) == wanted
    assert str(InputError(text)) == wanted
    assert redact(json.dumps([text, 1])) == json.dumps([wanted, 1])


def test_the_token_of_the_environment_is_hidden_whatever_it_looks_like(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "a token of the house")
    assert redact("with a token of the house.") == "with ***."
    monkeypatch.setenv("HF_TOKEN", "x")
    assert redact("xylophone") == "xylophone"


def test_nothing_that_is_written_or_said_has_a_secret(tmp_path, capsys, monkeypatch):
    secret = f"https://me:password@host/{TOKEN}"
    monkeypatch.setattr(sys, "argv", ["patchit", "--dataset", secret])
    assert "password" not in command()
    write_json(tmp_path / "a.json", {secret: [secret]})
    write_lines(tmp_path / "b.jsonl", [{"a": secret}])
    say(secret)
    run = RunFolder(tmp_path / "run", {"dataset": secret})
    run.start()
    run.release()
    RunFolder(tmp_path / "run", {"dataset": secret})  # it is the same run
    written = "".join(file.read_text() for file in tmp_path.rglob("*.json*"))
    for text in (written, capsys.readouterr().err, str(run.config)):
        assert "***@host/***" in text
        assert "password" not in text
        assert TOKEN not in text


def test_logged_lines_of_a_command_are_plain(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])

    def run(argv):
        logging.getLogger("patchit_hf.test").warning("%s %s", "\x1b[2Jgone", TOKEN)
        raise InputError("\x1b]0;title\x07no \x1b[1mcolumn")

    assert guarded(run, []) == 2
    assert stream.getvalue() == "gone ***\nerror: no column\n"


def test_a_file_name_of_any_bytes_can_be_listed(tmp_path):
    write_lines(tmp_path / "bad.jsonl", [{"file": b"\xff.png".decode(errors="surrogateescape")}])
    assert json.loads((tmp_path / "bad.jsonl").read_text())["file"] == "\udcff.png"


def test_markdown_of_a_value_is_shown_and_not_obeyed():
    value = "\n# Heading\n<script>x</script> | [a](javascript:b) ![i](u) `c` **d** &#60;"
    shown = (
        " # Heading &lt;script&gt;x&lt;/script&gt; \\| \\[a\\](javascript:b) !\\[i\\](u) \\`c\\` "
        "\\*\\*d\\*\\* &amp;#60;"
    )
    assert render("| {{ v }} |", v=value) == f"| {shown} |\n"
    assert render("{{ v | upper }} {{ n }}", v="a_b <", n=3) == "A_B &lt; 3\n"
    assert render("{{ v }}", v=Markdown("# as it is")) == "# as it is\n"


def test_code_and_blocks_cannot_be_left():
    assert code("a `` b\n# c | d") == "``` a `` b # c \\| d ```".replace(" a", "a").replace(
        "d ", "d"
    )
    assert code("`") == "`` ` ``"
    assert fenced("x\n```\n# Heading\n````", "text") == "`````text\nx\n```\n# Heading\n````\n`````"
    assert address("https://a.org/b_c?d=1#e") == "https://a.org/b_c?d=1#e"
    assert address("javascript:alert(1) <b>") == "javascript:alert(1) &lt;b&gt;"


def test_a_command_is_told_without_folders():
    told = command_without_folders(
        "python -m x --dataset '/home/me/My Crops' --init=~/w.safetensors a/b"
    )
    assert told == "python -m x --dataset 'My Crops' --init=w.safetensors a/b"
    assert command_without_folders("it's no command") == "it's no command"
