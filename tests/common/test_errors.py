"""One line of an exception, whoever wrote it."""

import doctest

import pytest

from patchit_hf.common import errors
from patchit_hf.common.errors import one_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\n\ttwo  three\r\n"), "one two three"),
        (EOFError(), "EOFError"),
        (OSError(" \n"), "OSError"),
        ("a\nb", "a b"),
        (ValueError("x" * 300), "x" * 300),
        (ValueError("x" * 301), "x" * 297 + "..."),
    ],
)
def test_one_line(error, line):
    assert one_line(error) == line


def test_a_limit_of_ones_own():
    assert one_line("abcdefghij", 10) == "abcdefghij"
    assert one_line("abcdefghijk", 10) == "abcdefg..."


def test_the_examples_run():
    assert doctest.testmod(errors).failed == 0
