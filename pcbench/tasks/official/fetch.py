"""Official files by pinned address and sha256: downloaded whole or not at all."""

import hashlib
import json
import lzma
import os
import stat
import struct
import tempfile
import tomllib
import zlib
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeVar
from zipfile import BadZipFile, ZipFile, ZipInfo

from pydantic import Field, TypeAdapter, ValidationError

from pcbench.config import Table, validate
from pcbench.errors import ConfigError, DataMissing, DiskFull, PcbenchError, unknown_name
from pcbench.json_text import parse_json
from pcbench.plain_files import FULL, read_text, write_whole
from pcbench.tasks.files import VARIABLE, data_dir
from pcbench.tasks.official.download import MOST_BYTES, pieces

__all__ = ["Source", "SourceFile", "fetch", "sources"]

# address → the sha256 that came first
TRUSTED = "trusted.json"
# sha256 of an archive → its members below `data_dir()` → their sha256
UNPACKED = "unpacked.json"

HASHES_BYTES = 1 << 26
MEND = "mend it or remove it"

T = TypeVar("T")


class SourceFile(Table):
    """A file of a source.

    Args:
        url: its address, with `{revision}`.
        revision: a commit.
        sha256: of the file; empty where it is not known.
        path: where it goes below `files.data_dir()`; of an archive the folder of its members.
        unpack: it is a zip archive.
    """

    url: str
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    path: str
    unpack: bool = False

    @property
    def address(self) -> str:
        return self.url.format(revision=self.revision)


class Source(Table):
    """What one name of `pcbench data fetch` fetches."""

    summary: str
    file: Annotated[list[SourceFile], Field(min_length=1)]

    @property
    def caveat(self) -> str:
        """What it needs beyond its name; empty where every file has a hash."""
        unknown = sum(not file.sha256 for file in self.file)
        return f"{unknown} of {len(self.file)} files have no known sha256: --trust-first-use" if unknown else ""


def sources() -> dict[str, Source]:
    """Name → source, from sources.toml."""
    tables = tomllib.loads(files("pcbench").joinpath("tasks/official/sources.toml").read_text(encoding="utf-8"))
    return {name: validate(Source, table, f"tasks/official/sources.toml: {name}") for name, table in tables.items()}


def fetch(
    name: str,
    say: Callable[[str], None],
    *,
    trust_first_use: bool = False,
    known: dict[str, Source] | None = None,
) -> None:
    """Downloads the files of a source that are not there yet.

    Args:
        name: of the source.
        say: told what is done.
        trust_first_use: takes a file without a hash as it comes and records its hash below `data_dir()`.
        known: the sources; None takes `sources()`.

    Raises:
        ConfigError: an unknown name, a file without a hash that is not to be trusted, a folder that takes no files,
            or a record of hashes in it that is none.
        DataMissing: a download failed or is not what its hash says; of that file nothing was kept.
        DiskFull: there is no room for it.
    """
    table = sources() if known is None else known
    if name not in table:
        raise unknown_name("data fetch", "source", name, table)
    try:
        _fetch_all(name, table[name].file, say, trust_first_use)
    except PcbenchError:
        raise
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(f"{data_dir()}: room on the disk, got {error.strerror}; make room") from error
        raise ConfigError(
            f"data fetch {name}: a folder that takes files, got {error}; name another by {VARIABLE}"
        ) from error


def _fetch_all(name: str, wanted: list[SourceFile], say: Callable[[str], None], trust_first_use: bool) -> None:
    trusted = _read(TRUSTED, dict[str, str])
    hashes = [(file, file.sha256 or trusted.get(file.address, "")) for file in wanted]
    for file, expected in hashes:
        if not expected and not trust_first_use:
            raise ConfigError(
                f"data fetch {name}: a known sha256 of {file.address}, got none; "
                f"--trust-first-use takes what comes and records its sha256 in {data_dir() / TRUSTED}"
            )
    for file, expected in hashes:
        if _is_there(file, expected):
            say(f"{file.path} is there")
            continue
        say(f"{file.address} → {data_dir() / file.path}")
        _fetch(file, expected)


def _is_there(file: SourceFile, expected: str) -> bool:
    """Whether the file, or every member of the archive, is what a download would put there."""
    unpacked = _read(UNPACKED, dict[str, dict[str, str]]) if file.unpack else {expected: {file.path: expected}}
    members = {data_dir() / path: sha256 for path, sha256 in unpacked.get(expected, {}).items()}
    return bool(members) and all(path.is_file() and _sha256(path) == sha256 for path, sha256 in members.items())


def _fetch(file: SourceFile, expected: str) -> None:
    data_dir().mkdir(parents=True, exist_ok=True)
    if not file.unpack:
        _check_places([data_dir() / file.path])
    # beside the target, so that the last step is a rename
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=data_dir()) as part:
        download, members = Path(part) / "file", Path(part) / "members"
        with download.open("wb") as out:
            out.writelines(pieces(file.address))
        got = _sha256(download)
        if expected and got != expected:
            raise DataMissing(
                f"{file.address}: sha256 {expected}, got {got}; nothing was kept, see whether the file was changed"
            )
        if file.unpack:
            _unpack(download, members, file.address)
            placed = {f"{file.path}/{path.relative_to(members).as_posix()}": path for path in _files(members)}
            hashes = {there: _sha256(path) for there, path in placed.items()}
            _check_places(data_dir() / there for there in placed)
            for there, path in placed.items():
                _place(path, data_dir() / there)
            _add(UNPACKED, dict[str, dict[str, str]], {got: hashes})
        else:
            _place(download, data_dir() / file.path)
    if not expected:
        _add(TRUSTED, dict[str, str], {file.address: got})


def _unpack(archive: Path, folder: Path, address: str) -> None:
    """Unpacks a zip archive none of whose members leaves the folder."""
    try:
        with ZipFile(archive) as packed:
            members = [member for member in packed.infolist() if not member.is_dir()]
            for member in members:
                if not _is_safe(member):
                    raise DataMissing(
                        f"{address}: members below its own folder, got {member.filename!r}; nothing was kept"
                    )
            if sum(member.file_size for member in members) > MOST_BYTES:
                raise DataMissing(f"{address}: at most {MOST_BYTES:,} bytes in an archive, got more; nothing was kept")
            for member in members:
                packed.extract(member, folder)
    # what is not a zip archive, or is broken, or has a password, or a compression of its own
    except (BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError) as error:
        raise DataMissing(f"{address}: a zip archive, got {error}; nothing was kept, try again") from error


def _is_safe(member: ZipInfo) -> bool:
    path = PurePosixPath(member.filename)
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    strange = any(mark in member.filename for mark in ("\\", ":", "\0"))
    return not (path.is_absolute() or ".." in path.parts or is_link or strange)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _check_places(targets: Iterable[Path]) -> None:
    """Replaces files only: what is something else is the user's."""
    for target in targets:
        if os.path.lexists(target) and not stat.S_ISREG(os.lstat(target).st_mode):
            raise ConfigError(
                f"{target}: a plain file or a new name, got something else; remove it or name a folder by {VARIABLE}"
            )


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(name: str, kind: type[dict[str, T]]) -> dict[str, T]:
    """A record of hashes in the folder; empty where there is none."""
    path = data_dir() / name
    if not os.path.lexists(path):
        return {}
    found = parse_json(read_text(path, HASHES_BYTES, remedy=MEND), str(path), remedy=MEND)
    try:
        return TypeAdapter(kind).validate_python(found, strict=True)
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        raise ConfigError(f"{path}: the hashes that were recorded, in JSON, got {said}; {MEND}") from None


def _add(name: str, kind: type[dict[str, T]], found: dict[str, T]) -> None:
    write_whole(data_dir() / name, json.dumps(_read(name, kind) | found, indent=1) + "\n")
