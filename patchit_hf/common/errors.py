"""The one exception that means: the input is wrong, and here is what is allowed."""


class InputError(ValueError):
    """Bad input from a user: a flag, a file, a column, a folder.

    The message is one line that names the value, where it came from, and what is allowed. The
    commands print it and leave with exit code 2; every other exception is a bug and keeps its
    traceback.
    """
