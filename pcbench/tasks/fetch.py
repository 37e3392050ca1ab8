"""Official files by pinned address and sha256: downloaded whole or not at all."""

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import tomllib
from collections.abc import Callable
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.request import urlopen
from zipfile import BadZipFile, ZipFile, ZipInfo

from pydantic import Field

from pcbench.config import Table, validate
from pcbench.errors import ConfigError, DataMissing, unknown_name
from pcbench.tasks.files import data_dir

__all__ = ["Source", "SourceFile", "fetch", "sources"]

# seconds without a byte
PATIENCE = 60
TRUSTED = "trusted.json"


class SourceFile(Table):
    """A file of a source.

    Args:
        url: its address, with `{revision}`.
        revision: a commit, or a branch, whose first hash is then the pin.
        sha256: of the file; empty where nobody has read it yet.
        path: where it goes below `files.data_dir()`; of an archive the folder of its members.
        unpack: it is a zip archive.
    """

    url: str
    revision: str
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    path: str
    unpack: bool = False

    @property
    def address(self) -> str:
        return self.url.format(revision=self.revision)

    @property
    def moves(self) -> bool:
        """Whether the revision is a branch, not a commit."""
        return re.fullmatch("[0-9a-f]{40}", self.revision) is None


class Source(Table):
    """What one name of `pcbench data fetch` fetches."""

    summary: str
    file: Annotated[list[SourceFile], Field(min_length=1)]


def sources() -> dict[str, Source]:
    """Name → source, from sources.toml."""
    tables = tomllib.loads(files("pcbench").joinpath("tasks/sources.toml").read_text(encoding="utf-8"))
    return {name: validate(Source, table, f"tasks/sources.toml: {name}") for name, table in tables.items()}


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
        ConfigError: an unknown name, or a file without a hash that is not to be trusted.
        DataMissing: a download failed or is not what its hash says; of that file nothing was kept.
    """
    table = sources() if known is None else known
    if name not in table:
        raise unknown_name("data fetch", "source", name, table)
    hashes = [(file, file.sha256 or _trusted().get(file.address, "")) for file in table[name].file]
    for file, expected in hashes:
        if not expected and not trust_first_use:
            moves = f"; revision {file.revision} is a branch and moves" if file.moves else ""
            raise ConfigError(
                f"data fetch {name}: a known sha256 of {file.address}, got none{moves}; "
                f"--trust-first-use takes what comes and records its sha256 in {data_dir() / TRUSTED}"
            )
    for file, expected in hashes:
        target = data_dir() / file.path
        if not file.unpack and expected and target.is_file() and _sha256(target) == expected:
            say(f"{file.path} is there")
            continue
        say(f"{file.address} → {target}")
        _fetch(file, target, expected)


def _fetch(file: SourceFile, target: Path, expected: str) -> None:
    data_dir().mkdir(parents=True, exist_ok=True)
    # beside the target, so that the last step is a rename
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=data_dir()) as part:
        got = _download(file.address, Path(part) / "file")
        if expected and got != expected:
            raise DataMissing(
                f"{file.address}: sha256 {expected}, got {got}; nothing was kept, see whether the file was changed"
            )
        if file.unpack:
            _unpack(Path(part) / "file", Path(part) / "members", file.address)
            for member in sorted((Path(part) / "members").rglob("*")):
                if member.is_file():
                    _place(member, target / member.relative_to(Path(part) / "members"))
        else:
            _place(Path(part) / "file", target)
    if not expected:
        _trust(file.address, got)


def _download(address: str, target: Path) -> str:
    """The file's sha256."""
    try:
        with urlopen(address, timeout=PATIENCE) as answer, target.open("wb") as out:
            shutil.copyfileobj(answer, out)
            length = answer.headers.get("Content-Length")
    except (OSError, HTTPException) as error:
        raise DataMissing(f"{address}: the file, got {error}; nothing was kept, try again or get it by hand") from error
    if length is not None and target.stat().st_size != int(length):
        raise DataMissing(f"{address}: {length} bytes, got {target.stat().st_size}; nothing was kept, try again")
    return _sha256(target)


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
            for member in members:
                packed.extract(member, folder)
    except BadZipFile as error:
        raise DataMissing(f"{address}: a zip archive, got {error}; nothing was kept, try again") from error


def _is_safe(member: ZipInfo) -> bool:
    path = PurePosixPath(member.filename)
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    strange = any(mark in member.filename for mark in ("\\", ":", "\0"))
    return not (path.is_absolute() or ".." in path.parts or is_link or strange)


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _trusted() -> dict[str, str]:
    path = data_dir() / TRUSTED
    if not path.is_file():
        return {}
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _trust(address: str, sha256: str) -> None:
    """Records a first hash."""
    path = data_dir() / TRUSTED
    part = path.with_name(f"{TRUSTED}.{os.getpid()}")
    part.write_text(json.dumps(_trusted() | {address: sha256}, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
