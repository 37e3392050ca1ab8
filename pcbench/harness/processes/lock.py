"""One run a folder: a lock of the folder itself, which ends with the processes that hold it."""

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pcbench.errors import ConfigError
from pcbench.plain_files import write_whole

__all__ = ["joined_in", "locked"]

# says who holds the folder, for the message of others; it locks nothing
NAME = "pcbench.lock"
MARK = "pcbench run: "
# of the file
LONGEST_BYTES = 300
# how file systems say that they lock no folders
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)


@contextmanager
def locked(folder: Path, check: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Holds a folder until the end of a `with`; the system frees it where the process ends before.

    Children do not inherit it. The file `pcbench.lock` says who holds the folder.

    Args:
        folder: that is there.
        check: of what is in the folder, while it is held and before anything is written.

    Raises:
        ConfigError: another run holds the folder, its file system has no locks, or what `check` raises.
        OSError: the folder takes no files.
    """
    with _opened(folder) as descriptor:
        _lock(descriptor, folder, fcntl.LOCK_EX)
        check()
        # the other ranks of this run join in; a run that begins wants it alone
        _lock(descriptor, folder, fcntl.LOCK_SH)
        with _signed(folder / NAME):
            yield


@contextmanager
def joined_in(folder: Path) -> Iterator[None]:
    """Holds a folder beside the rank that has `locked` it: it is free when the last of them has ended.

    Raises:
        ConfigError, OSError: as of `locked`.
    """
    with _opened(folder) as descriptor:
        _lock(descriptor, folder, fcntl.LOCK_SH)
        yield


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _signed(path: Path) -> Iterator[None]:
    """The file with the name of this process, unless it is somebody else's."""
    if os.path.lexists(path) and _holder(path) is None:
        raise ConfigError(f"--out: a folder whose {NAME} is of a run, got another {path}; choose another")
    name = f"process {os.getpid()} on {socket.gethostname()}"
    write_whole(path, f"{MARK}{name}\n")
    ours = path.lstat()
    try:
        yield
    finally:
        # a folder that has gone has no file to remove
        with suppress(OSError):
            # a new file may have the number of one that has gone
            if os.path.samestat(ours, path.lstat()) and _holder(path) == name:
                path.unlink()


def _holder(path: Path) -> str | None:
    """Who has signed; None where the file is not there or not of a run."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            text = file.read(LONGEST_BYTES).decode(errors="replace")
    except OSError:
        return None
    return text.removeprefix(MARK).strip() if text.startswith(MARK) else None


def _lock(descriptor: int, folder: Path, kind: int) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(folder / NAME) or "another process"
        raise ConfigError(
            f"--out: a folder that no run is writing, got {folder}, which {holder} holds; wait for it or choose another"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise ConfigError(
            f"--out: a folder on a file system with locks (flock), got {folder}: {error.strerror}; "
            "choose one on another file system"
        ) from error
