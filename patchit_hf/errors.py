"""The one exception for wrong input, and one line of any other."""

LONGEST = 300  # characters of somebody else's message


def one_line(error: object, limit: int = LONGEST) -> str:
    """Return the message of an exception, or any text, in one line.

    Args:
        error: the exception; one without a message is named by its type.
        limit: largest number of characters; what is longer ends in ``...``.

    Example:
        >>> one_line(ValueError("two   words"))
        'two words'
        >>> one_line(EOFError())
        'EOFError'
    """
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


class InputError(ValueError):
    """Bad input from a user: a flag, a file, a column, a folder.

    The message is one line that names the value, where it came from, and what is allowed. The
    commands print it and leave with exit code 2; every other exception is a bug and keeps its
    traceback.
    """
