"""One run a folder: a lock that ends with the process that holds it."""

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pcbench.errors import ConfigError

__all__ = ["locked"]

NAME = ".lock"
# of the name of its holder
LONGEST_BYTES = 300


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder until the end of a `with`; the system frees it where the process ends before.

    Children do not inherit it. The file `.lock` says who holds it; one that is left over holds nothing.

    Raises:
        ConfigError: another run holds the folder, or its file system has no locks.
        OSError: the folder takes no files.
    """
    path = folder / NAME
    descriptor = _taken(path)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        # before it is free: afterwards it may be another run's; a folder that has gone has no lock to remove
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _taken(path: Path) -> int:
    """An open, locked file that is the one of this name."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            _lock(descriptor, path)
            held = os.fstat(descriptor)
            with suppress(FileNotFoundError):
                if os.path.samestat(held, path.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # its holder has just removed it
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise ConfigError(f"--out: a folder whose {NAME} is a plain file, got {path}; choose another")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, LONGEST_BYTES, 0).decode(errors="replace").strip() or "another process"
        raise ConfigError(
            f"--out: a folder that no run is writing, got {path.parent}, which {holder} holds; "
            "wait for it or choose another"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        raise ConfigError(
            f"--out: a folder on a file system with locks (flock), got {path.parent}: {error.strerror}; "
            "choose one on another file system"
        ) from error
