"""Text is read alike with any byte order mark and line ends, and what is no text is one line."""

import pytest

from patchit_hf.common.errors import InputError
from patchit_hf.common.files import read_json
from patchit_hf.common.text import (
    read_ini,
    read_json_value,
    read_lines,
    read_text,
    read_yaml,
    text_start,
)

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_one_text_in_any_encoding(tmp_path, encoding, end):
    file = tmp_path / "a.txt"
    file.write_bytes(f"né 1{end}{end}b\tc{end}".encode(encoding))
    assert read_text(file) == "né 1\n\nb\tc\n"
    assert read_lines(file) == ["né 1", "", "b\tc"]
    assert text_start(file).splitlines() == ["né 1", "", "b\tc"]


def test_what_python_calls_a_line_end_stays_in_a_name(tmp_path):
    (tmp_path / "a.txt").write_text("a\x0cb\u2028c 1\nd", encoding="utf-8")
    assert read_lines(tmp_path / "a.txt") == ["a\x0cb\u2028c 1", "d"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_yaml_and_ini(tmp_path, encoding):
    (tmp_path / "a.json").write_bytes('{"é": [1]}'.encode(encoding))
    (tmp_path / "a.yaml").write_bytes("é:\r\n\t- 1\r\n".encode(encoding))
    (tmp_path / "a.ini").write_bytes("[é]\r\nend = 100%.jpg\r\nend = %d.png\r\n".encode(encoding))
    assert read_json(tmp_path / "a.json") == read_json_value(tmp_path / "a.json") == {"é": [1]}
    assert read_yaml(tmp_path / "a.yaml") == {"é": [1]}
    assert read_ini(tmp_path / "a.ini").get("é", "end") == "%d.png"


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (read_text, b"a\xff", "is not UTF-8 text: invalid start byte; save it as UTF-8"),
        (read_text, b"\xff\xfea", "is not UTF-8 text: truncated data; save it as UTF-8"),
        (read_json_value, b"[" * 100_000, "is damaged: "),
        (read_json_value, b'{"a": }', "is damaged: Expecting value: line 1 column 7 (char 6)"),
        (read_json, b"[]", "must contain a JSON object"),
        (read_yaml, b"a: [", "is not YAML: "),
        (read_yaml, b"a:\t[\n", "is not YAML: "),
        (read_yaml, b"a: 2020-13-45", "is not YAML: month must be in 1..12"),
        (read_ini, b"a = 1", "is damaged: File contains no section headers."),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, read, content, message):
    file = tmp_path / "a"
    file.write_bytes(content)
    with pytest.raises(InputError) as error:
        read(file)
    assert str(error.value).startswith(f"{file}: {message}")
    assert "\n" not in str(error.value)


def test_no_file(tmp_path):
    for read in (read_text, text_start, read_yaml):
        with pytest.raises(InputError) as error:
            read(tmp_path / "none")
        assert str(error.value) == f"{tmp_path / 'none'}: cannot be read: No such file or directory"
