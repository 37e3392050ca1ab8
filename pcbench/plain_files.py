"""Plain files: looked at before they are opened, read up to a size, written whole or not at all."""

import errno
import hashlib
import os
import secrets
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from pcbench.errors import ConfigError, DataMissing, DiskFull, PcbenchError

__all__ = [
    "FULL",
    "MARKS",
    "append_whole",
    "decoded",
    "opened",
    "read_bytes",
    "read_lines",
    "read_text",
    "read_toml",
    "room",
    "sha256_of",
    "text_of",
    "write_for",
    "write_whole",
]

# of a file that is hashed
PIECE_BYTES = 1 << 24

# how a system says that a file has no more room: disk, quota, limit of a file's size
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
# what looks like text and is not UTF-8: its first bytes
MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip", b"PK\x03\x04": "a zip archive"}
REMEDY = "name a plain file"


def read_bytes(
    path: Path, at_most: int, *, where: str = "", error: type[PcbenchError] = ConfigError, remedy: str = REMEDY
) -> bytes:
    """All of a file; nothing that is no plain file is ever opened.

    Args:
        path: links are followed.
        at_most: bytes; a file that has more is refused.
        where: the head of messages; empty takes the path.
        error: what is raised.
        remedy: what to do, the end of messages.

    Raises:
        DataMissing: there is no such file.
        PcbenchError: of kind `error`: no plain file, too large, or one that cannot be read.
    """
    where = where or str(path)
    with opened(path, where, error, remedy) as file:
        _hold(os.fstat(file.fileno()).st_size, at_most, where, error, remedy)
        data = file.read(at_most + 1)
    _hold(len(data), at_most, where, error, remedy)
    return data


def read_text(
    path: Path, at_most: int, *, where: str = "", error: type[PcbenchError] = ConfigError, remedy: str = REMEDY
) -> str:
    """All of a file of UTF-8, without its byte order mark; arguments and errors as of `read_bytes`."""
    data = read_bytes(path, at_most, where=where, error=error, remedy=remedy)
    return decoded(data, where or str(path), error=error)


def read_toml(path: Path, at_most: int, *, where: str = "") -> dict[str, Any]:
    """A file of TOML; arguments and errors as of `read_bytes`, and ConfigError where it is no TOML."""
    where = where or str(path)
    text = read_text(path, at_most, where=where)
    try:
        return tomllib.loads(text)
    except RecursionError:
        got = "nesting without end"
    # a TOMLDecodeError, or a number of more digits than Python reads
    except ValueError as error:
        got = str(error)
    raise ConfigError(f"{where}: a TOML file, got an error: {got}")


def read_lines(
    path: Path, at_most: int, *, where: str = "", error: type[PcbenchError] = ConfigError, remedy: str = REMEDY
) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every line, its end included; only one line is held.

    Args:
        path, where, error, remedy: as of `read_bytes`.
        at_most: bytes of one line.
    """
    where, number = where or str(path), 0
    with opened(path, where, error, remedy) as file:
        while line := file.readline(at_most + 1):
            number += 1
            _hold(len(line), at_most, f"{where}:{number}", error, remedy)
            yield number, line


def sha256_of(path: Path, *, where: str = "") -> str:
    """Of the bytes of a file, which are not held; `where` and errors as of `read_bytes`."""
    with opened(path, where or str(path)) as file:
        found = os.fstat(file.fileno())
        return _sha256(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, _size: int, _changed: int) -> str:
    with opened(path, str(path)) as file:
        found = hashlib.sha256()
        while piece := file.read(PIECE_BYTES):
            found.update(piece)
    return found.hexdigest()


def decoded(data: bytes, where: str, *, error: type[PcbenchError] = ConfigError) -> str:
    """UTF-8 as text, without a byte order mark.

    Raises:
        PcbenchError: of kind `error`: it is not UTF-8; the message says where it ends to be, or what it looks like.
    """
    try:
        return text_of(data)
    except ValueError as wrong:
        raise error(f"{where}: text in UTF-8, got {wrong}; save it as UTF-8") from None


def text_of(data: bytes) -> str:
    """The same for who has words of their own.

    Raises:
        ValueError: says what is wrong.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        looks = next((name for mark, name in MARKS.items() if data.startswith(mark)), "")
        raise ValueError(looks or f"byte 0x{data[wrong.start]:02x} at {wrong.start}") from None


@contextmanager
def opened(path: Path, where: str, error: type[PcbenchError] = ConfigError, remedy: str = REMEDY) -> Iterator[BinaryIO]:
    """A plain file for reading; arguments and errors as of `read_bytes`."""
    try:
        # a device may do something when it is opened, so it is looked at before; a FIFO would wait
        _check_plain(os.stat(path), where, error, remedy)
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(number, "rb") as file:
            _check_plain(os.fstat(number), where, error, remedy)
            yield file
    except PcbenchError:
        raise
    except (FileNotFoundError, NotADirectoryError) as missing:
        raise DataMissing(f"{where}: a file, got {missing.strerror}; {remedy}") from None
    # a name with a zero byte, or with half a letter, is no name
    except (OSError, ValueError) as wrong:
        got = wrong.strerror if isinstance(wrong, OSError) else str(wrong)
        raise error(f"{where}: a file that can be read, got {got}; {remedy}") from None


def _check_plain(found: os.stat_result, where: str, error: type[PcbenchError], remedy: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{where}: a plain file, got {_kind(found)}; {remedy}")


def _kind(found: os.stat_result) -> str:
    return KINDS.get(stat.S_IFMT(found.st_mode), "something else")


def _hold(size: int, at_most: int, where: str, error: type[PcbenchError], remedy: str) -> None:
    if size > at_most:
        raise error(
            f"{where}: at most {at_most:,} bytes, got {'more' if size == at_most + 1 else f'{size:,}'}; {remedy}"
        )


def write_for(option: str, path: Path, text: str) -> None:
    """Writes the file that an option of the command line names.

    Raises:
        ConfigError: it cannot be written, or the text cannot; what stood there before still does.
        DiskFull: there is no room.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"{ord(text[error.start]):#x} at {error.start}"
        raise ConfigError(
            f"{option}: a text for {path}, got half a letter in it, {half}; mend the files that it was read from"
        ) from None
    try:
        write_whole(path, text)
    except ConfigError as error:
        raise ConfigError(f"{option}: {error}") from None
    except (OSError, ValueError) as error:
        got = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{option}: a file that can be written, got {path}: {got}; choose another") from None


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file that is either the old one or the new one, whatever interrupts. A link stays one.

    Raises:
        ConfigError: something that is no plain file stands there.
        DiskFull: there is no room; the old one stays.
        OSError: it cannot be written, or not be replaced.
    """
    target = Path(os.path.realpath(path))
    mode = _mode_of(target, path)
    # beside the target, so that the last step is a rename; a name that nobody has
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with room(path), os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb", 0) as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            _write_all(file, content)
        _mode_of(target, path)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def append_whole(path: Path, text: str) -> None:
    """Adds a text to a file, all of it or none, and waits until it is on the disk.

    Raises:
        ConfigError: something that is no plain file stands there.
        DiskFull: there is no room; the file is as long as before.
        OSError: it cannot be written.
    """
    _mode_of(path, path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY
    with room(path), os.fdopen(os.open(path, flags, 0o666), "ab", 0) as file:
        before = file.tell()
        try:
            _write_all(file, text)
        except OSError:
            file.truncate(before)
            raise


@contextmanager
def room(path: Path) -> Iterator[None]:
    """Turns what a full disk raises into DiskFull, named by the path."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DiskFull(f"{path}: room on the disk, got {error.strerror}; make room") from error


def _mode_of(target: Path, path: Path) -> int | None:
    """The permissions of the plain file that stands there; None where nothing does.

    Raises:
        ConfigError: something else stands there.
        OSError: it may not be written.
    """
    try:
        found = os.stat(target)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{path}: a plain file or a new name, got {_kind(found)}; choose another")
    if not os.access(target, os.W_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    return stat.S_IMODE(found.st_mode)


def _write_all(file: BinaryIO, content: str | bytes) -> None:
    # the file has no buffer: nothing is left to be written when it is closed
    rest = memoryview(content.encode() if isinstance(content, str) else content)
    while rest:
        rest = rest[file.write(rest) :]
    os.fsync(file.fileno())
