"""What the machine lacks, in one line: room on a disk, permission, memory, open files."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from patchit_hf.common.errors import ResourceError as ResourceError
from patchit_hf.common.errors import one_line

try:
    import resource
except ImportError:  # Windows has no limits of this kind
    resource = None  # type: ignore[assignment]

GONE = "has been deleted, or is not what it was"
REASONS = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "a file would be larger than this process may write (ulimit -f)",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EIO: "the disk reports an input or output error",
    errno.ESTALE: "the network file system has lost it",
    errno.ENOENT: GONE,
    errno.ENOTDIR: GONE,
    errno.EEXIST: "a file is in its place",
    errno.EMFILE: "too many files are open in this process (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
}
SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_IN_TEXT = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")  # of errors without a number


@contextmanager
def writing(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn a failure to write into a ``ResourceError``; other exceptions pass.

    Args:
        path: the file or folder that is written.
        needed: the bytes it takes; None if they are not known beforehand.

    Raises:
        ResourceError: if the disk is full, a limit is reached, or the folder may not be written.

    Example:
        >>> with writing(Path("/dev/full"), 1), open("/dev/full", "wb", buffering=0) as file:
        ...     _ = file.write(b"x")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        patchit_hf.common.errors.ResourceError: '/dev': 'full' cannot be written: no space is...
    """
    try:
        yield
    except Exception as error:
        number = number_of(error) if _is_of(error, path) else None
        if number not in REASONS:
            raise
        raise ResourceError(lack(path, number, needed)) from error


def _is_of(error: Exception, path: Path) -> bool:
    """Whether an exception may be a failure to write a file or folder."""
    if isinstance(error, OSError):
        named = getattr(error, "filename", None)  # a file that was read meanwhile, maybe
        folder = path.parent.absolute()
        return named is None or Path(os.fsdecode(named)).absolute().is_relative_to(folder)
    return type(error) is RuntimeError or type(error).__name__ == "SafetensorError"


def lack(path: Path, number: int, needed: int | None = None) -> str:
    """Return the line about a file or folder that cannot be written.

    Args:
        path: the file or folder.
        number: what the operating system said, as in ``OSError.errno``.
        needed: the bytes it takes; None if they are not known.
    """
    folder = path.parent
    line = f"{str(folder)!r}: {path.name!r} cannot be written: {REASONS[number]}"
    if number not in SPACE:
        return line
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0] if resource is not None else -1
    if number == errno.EFBIG and limit >= 0:
        there = f"; {limit:,} bytes are allowed"
    else:
        there = f"; {free_bytes(folder):,} bytes are free"
    return line + there + (f", {needed:,} are needed" if needed else "")


def check_writable(folder: Path) -> None:
    """Check that a folder, or one that does not exist yet, may be written to.

    Raises:
        ResourceError: if not.
    """
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if os.access(there, os.W_OK | os.X_OK):
        return
    read_only = hasattr(os, "statvfs") and os.statvfs(there).f_flag & os.ST_RDONLY
    raise ResourceError(f"{str(there)!r}: {REASONS[errno.EROFS if read_only else errno.EACCES]}")


def free_bytes(folder: Path) -> int:
    """Return the bytes that this process may still write below a folder that may not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def number_of(error: BaseException | None) -> int | None:
    """Return the operating system's number for a failure, also if another error wraps it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        found = _IN_TEXT.search(str(error))
        if found:
            return int(found[1] or found[2])
        error = error.__cause__ or error.__context__
    return None


def line_of(error: BaseException) -> str | None:
    """Return the line about a failure outside of ``writing``; None if no resource is lacking.

    Args:
        error: the exception that ended a command.
    """
    if isinstance(error, ResourceError):
        return str(error)
    number = number_of(error) if isinstance(error, OSError) else None
    if number in (errno.EMFILE, errno.ENFILE):
        limit = "" if resource is None else f"; {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,} "
        named = getattr(error, "filename", None)
        where = f" ({os.fsdecode(named)!r})" if named else ""
        return (
            f"{REASONS[number]}{where}{limit}are allowed: raise the limit, as with ulimit -n "
            "65536, or give a smaller --workers"
        )
    named = getattr(error, "filename", None)
    if number in REASONS and REASONS[number] != GONE and named:
        return f"{os.fsdecode(named)!r}: {REASONS[number]}"
    if isinstance(error, MemoryError):
        return f"out of memory: {one_line(error)}"
    return None
