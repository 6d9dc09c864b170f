"""One writer per folder: a second command that would write to it learns which process holds it.

The lock belongs to the process and is kept by the operating system. It ends with the process,
however that ends, so a killed process never blocks the next one.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import weakref
from datetime import datetime
from pathlib import Path

from patchit_hf.common.errors import InputError

LOCK = ".lock"

_holds: weakref.WeakValueDictionary[tuple[int, str], _Hold]


class _Hold:
    """What the locks of one folder in this process share; it is released with the last of them."""

    def __init__(self, file: Path, descriptor: int) -> None:
        weakref.finalize(self, _release, file, descriptor, os.getpid())


_holds = weakref.WeakValueDictionary()  # keyed by process (forks copy it) and folder


class FolderLock:
    """Holds a folder until it is released, garbage-collected, or the process ends.

    Args:
        folder: the folder; it must exist.
        what: how an error names it, such as ``--output-dir 'runs/x'``.

    Raises:
        InputError: if another process holds it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> lock = FolderLock(folder, "--output-dir")
        >>> check_free(folder, "--output-dir")  # this process may write
        >>> lock.release()
    """

    def __init__(self, folder: Path, what: str) -> None:
        key = (os.getpid(), str(folder.resolve()))
        self._hold = _holds.get(key)
        if self._hold is None:
            file = folder / LOCK
            descriptor = _acquire(file)
            if descriptor is None:
                raise InputError(busy_line(file, what))
            _write_owner(descriptor)
            self._hold = _holds[key] = _Hold(file, descriptor)

    def release(self) -> None:
        """Release the folder; other locks that this process has on it stay."""
        self._hold = None


def check_free(folder: Path, what: str) -> None:
    """Check that no other process holds a folder, and leave the folder as it is.

    Raises:
        InputError: if another process holds it.
    """
    file = folder / LOCK
    if not file.exists() or (os.getpid(), str(folder.resolve())) in _holds:
        return
    descriptor = _acquire(file)
    if descriptor is None:
        raise InputError(busy_line(file, what))
    os.close(descriptor)


def is_abandoned(folder: Path) -> bool:
    """Whether a folder was held once, and no living process holds it any more."""
    file = folder / LOCK
    if not file.exists() or (os.getpid(), str(folder.resolve())) in _holds:
        return False
    try:
        descriptor = _acquire(file)
    except OSError:  # it is gone by now, or belongs to somebody else
        return False
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def busy_line(file: Path, what: str) -> str:
    """Return the error message that names the process holding a lock."""
    try:
        owner = json.loads(file.read_text(encoding="utf-8"))
        who = f"process {owner['process']} on {owner['host']}, since {owner['since']}"
    except (OSError, ValueError, KeyError):  # it has not written its name yet
        who = "another process"
    return f"{what}: is being written by {who}; wait for it, stop it, or choose another folder"


def _acquire(file: Path) -> int | None:
    """Return a descriptor that holds the lock; None if another process holds it."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            _lock(descriptor)
            if os.path.exists(file) and os.path.samestat(os.fstat(descriptor), os.stat(file)):
                return descriptor
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        os.close(descriptor)  # its holder has deleted it, so the locked file is gone


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 2**20, os.SEEK_SET)  # after the owner's name, which stays readable
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _write_owner(descriptor: int) -> None:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    owner = {"process": os.getpid(), "host": socket.gethostname(), "since": since}
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.truncate(descriptor, 0)
    os.write(descriptor, json.dumps(owner).encode())


def _release(file: Path, descriptor: int, process: int) -> None:
    if process != os.getpid():  # a fork's copy
        return
    if sys.platform != "win32":  # Windows cannot delete an open file
        file.unlink(missing_ok=True)
    os.close(descriptor)
