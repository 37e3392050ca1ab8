"""A run's folder: manifest.json, records.jsonl, samples.jsonl and records.csv, readable after any interruption.

That of a shard of prompts has parts.jsonl, too.
"""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import ConfigDict, Field

from pcbench.config import Table, validate
from pcbench.errors import ConfigError, DataMissing, FolderLost, shown
from pcbench.json_text import parse_json
from pcbench.plain_files import append_whole, decoded, read_lines, read_text, room, write_whole
from pcbench.rows import EDITED, ROWS, Rows, check_schema
from pcbench.types import Part, Record, Sample

__all__ = [
    "JSONL_ONLY",
    "Asked",
    "PromptKey",
    "RunFolder",
    "ShardOf",
    "checked_manifest",
    "prompt_key",
    "read_records",
    "read_run",
]

# too long for a table cell
JSONL_ONLY = (
    "samples_ms", "warmup_ms", "decode_samples_ms", "stages_ms", "parity_ops", "phase_bytes", "telemetry_summary",
    "nll_by_position", "sdpa_ms", "served_samples_ms", "quantization",
)  # fmt: skip

# how a text begins that spreadsheets take for a formula; reports/templates/report.js has the same
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
# far beyond what a run writes
LINE_BYTES, MANIFEST_BYTES = 1 << 26, 1 << 28

# cell, id and sha256: records of one file may ask the same and want other answers
PromptKey = tuple[str, str, str]

T = TypeVar("T", Record, Sample, Part)


Ranks = Annotated[int, Field(ge=1, le=1 << 16)]


class Environment(Table):
    """What is read of a manifest's part about the machine."""

    model_config = ConfigDict(extra="allow")

    ranks: Ranks | None = None
    extensions: dict[str, dict[str, str]] | None = None


class Asked(Table):
    """Of a command line what says what is measured, and shards of a run have in common, as `Options` names it."""

    suite: str
    device: str = "auto"
    preset: str | None = None
    model: str | None = None
    methods: list[str] = Field(default_factory=list)
    sets: list[str] = Field(default_factory=list)
    limit: int | None = None
    isolate: bool = False
    tasks: list[str] = Field(default_factory=list)


class ShardOf(Table):
    """Which part of what run a folder holds.

    Args:
        number, count: of the shard, from 1.
        options: of the command line.
        whole: of the whole run what `Kind.fixed` says.
    """

    number: Annotated[int, Field(ge=1)]
    count: Annotated[int, Field(ge=2)]
    options: Asked
    whole: dict[str, list[Any]]


class Manifest(Table):
    """What is read of a manifest; other keys may stand in it."""

    model_config = ConfigDict(extra="allow")

    run: str
    suite: str = ""
    created_at: str = ""
    command: str = ""
    options: Asked | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] | None = None
    environment: Environment = Field(default_factory=Environment)
    rank_files: Ranks | None = None
    shard: ShardOf | None = None
    builds: dict[str, str] = Field(default_factory=dict)
    cells: list[str] = Field(default_factory=list)
    tasks: list[str] = Field(default_factory=list)
    timed: list[bool] = Field(default_factory=list)
    prompts: list[int | None] = Field(default_factory=list)
    new_tokens: list[int | None] = Field(default_factory=list)


def checked_manifest(found: Any, where: str) -> dict[str, Any]:
    """A manifest as it was read.

    Args:
        found: of JSON.
        where: the file, the head of the message.

    Raises:
        ConfigError: it is none; the message names the key path.
    """
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: a JSON object, got {shown(found)}; {EDITED}")
    check_schema(found.get("schema"), where)
    validate(Manifest, {name: value for name, value in found.items() if name != "schema"}, where, EDITED)
    return found


class Lines(Generic[T]):
    """A JSON-lines file of one dataclass. A last line that was cut off is not a line.

    Args:
        path: the file; it need not exist.
        kind: the dataclass of a line.
    """

    def __init__(self, path: Path, kind: type[T]) -> None:
        self.path = path
        self.kind: type[T] = kind
        self.rows: Rows[T] = ROWS[kind]

    def read(self) -> list[T]:
        """Every complete line.

        Raises:
            ConfigError: a complete line is no `kind`, or the file is no plain file; the message names file, line and
                key path.
        """
        if not os.path.lexists(self.path):
            return []
        # a line may have been cut inside a letter, so lines are cut before letters are read
        complete = ((n, line) for n, line in read_lines(self.path, LINE_BYTES) if line.endswith(b"\n"))
        return [self._parse(line, f"{self.path}:{number}") for number, line in complete if line != b"\n"]

    def _parse(self, line: bytes, where: str) -> T:
        return self.rows.read(parse_json(decoded(line, where), where, remedy=EDITED), where)

    def append(self, rows: Iterable[T]) -> None:
        """Adds all rows, or none where the disk is full.

        Raises:
            DiskFull: there is no room.
            FolderLost: its folder has gone or takes no more files.
        """
        with _standing(self.path.parent):
            append_whole(self.path, "".join(_dumps(asdict(row)) + "\n" for row in rows))

    def replace(self, rows: Sequence[T]) -> None:
        """The file holds exactly `rows`, or, after an interruption, what it held before."""
        with _standing(self.path.parent):
            write_whole(self.path, "".join(_dumps(asdict(row)) + "\n" for row in rows))


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; `create` makes it.
        rank: of the process that writes; those beyond 0 have files of their own until `arrange`.
    """

    def __init__(self, path: Path, rank: int = 0) -> None:
        self.path = path
        ending = f"rank{rank}.jsonl" if rank else "jsonl"
        self.records = Lines(path / f"records.{ending}", Record)
        self.samples = Lines(path / f"samples.{ending}", Sample)
        self.parts = Lines(path / "parts.jsonl", Part)

    def create(self) -> None:
        with room(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    @property
    def manifest(self) -> dict[str, Any]:
        """manifest.json.

        Raises:
            DataMissing: the folder holds none.
            ConfigError: it is not what a run writes; the message names the key path.
        """
        path = self.path / "manifest.json"
        if not os.path.isdir(self.path) or not os.path.lexists(path):
            raise DataMissing(f"{self.path}: a run's folder with manifest.json, got none; give the folder of --out")
        found = parse_json(read_text(path, MANIFEST_BYTES), str(path), remedy=EDITED)
        return checked_manifest(found, str(path))

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        write_whole(self.path / "manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")

    def keep_groups(self, finished: set[str], cells: Iterable[str] = ()) -> None:
        """Drops the records and samples of groups that are not in `finished`; the samples of `cells` stay."""
        records = [r for r in self.records.read() if r.group in finished]
        cells = {*cells, *(r.cell for r in records)}
        self.records.replace(records)
        self.samples.replace([s for s in self.samples.read() if s.cell in cells])
        if parts := self.parts.read():
            self.parts.replace([part for part in parts if part.cell in {r.cell for r in records}])

    def arrange(self, cells: Sequence[str], ranks: int) -> None:
        """Takes in the lines of every rank's files, each once, in the order of `cells` and of their prompts.

        Args:
            cells: in their order.
            ranks: how many have written here; only files of their exact names are read and removed.
        """
        place = {key: i for i, key in enumerate(cells)}
        of_ranks = [RunFolder(self.path, rank) for rank in range(1, ranks)]
        written = [record for folder in (self, *of_ranks) for record in folder.records.read()]
        latest = {record.cell: record for record in written}
        self.records.replace(sorted(latest.values(), key=lambda r: place.get(r.cell, len(place))))
        answered = [sample for folder in (self, *of_ranks) for sample in folder.samples.read()]
        samples = {_identity(sample): sample for sample in answered}
        self.samples.replace(sorted(samples.values(), key=lambda s: (place.get(s.cell, len(place)), s.index or 0)))
        for other in of_ranks:
            other.records.path.unlink(missing_ok=True)
            other.samples.path.unlink(missing_ok=True)

    def taken(self, ranks: int) -> str | None:
        """The name of a file that a run on so many ranks would write, and that is there."""
        folders = [RunFolder(self.path, rank) for rank in range(ranks)]
        written = [path.name for folder in folders for path in (folder.records.path, folder.samples.path)]
        names = (*written, "parts.jsonl", "errors.txt", "records.csv", "report.html")
        return next((name for name in names if os.path.lexists(self.path / name)), None)

    def log_errors(self, traces: Mapping[str, str]) -> None:
        """errors.txt keeps the tracebacks, by cell, whose one line is in the records."""
        if traces:
            with _standing(self.path):
                append_whole(self.path / "errors.txt", "".join(f"{cell}\n{trace}\n" for cell, trace in traces.items()))

    def write_csv(self) -> None:
        """records.csv: the records without what does not fit a table; dicts and lists as JSON.

        A text that a spreadsheet would run has an apostrophe in front; numbers stay numbers.
        """
        names = [f.name for f in fields(Record) if f.name not in JSONL_ONLY]
        file = io.StringIO(newline="")
        writer = csv.writer(file)
        writer.writerow(names)
        for record in read_records(self.path):
            writer.writerow([_cell(getattr(record, name)) for name in names])
        with _standing(self.path):
            write_whole(self.path / "records.csv", file.getvalue())


def read_records(folder: Path) -> list[Record]:
    """The records of a run in the order they were finished; of a cell seen twice the last line."""
    latest = {record.cell: record for record in RunFolder(folder).records.read()}
    return list(latest.values())


def read_run(path: Path) -> tuple[dict[str, Any], list[Record], list[Sample]]:
    """Manifest, records and samples of a folder.

    Raises:
        DataMissing: the folder holds no run.
        ConfigError: a file is not what a run writes, or holds a record of a cell that the manifest does not plan.
    """
    folder = RunFolder(path)
    manifest, records = folder.manifest, read_records(path)
    planned = manifest.get("cells")
    for record in records:
        # scores over several cells are not planned, and nothing of them was measured
        derived = record.score is not None and record.samples_ms is None and record.peak_bytes is None
        if planned is not None and record.cell not in planned and not derived:
            got = f"records of the cells of manifest.json, got one of {shown(record.cell)}"
            raise ConfigError(f"{folder.records.path}: {got}; {EDITED}")
    return manifest, records, folder.samples.read()


def prompt_key(sample: Sample) -> PromptKey:
    """Which prompt of which cell a sample answers."""
    return sample.cell, sample.id, sample.prompt_sha256


def _identity(sample: Sample) -> tuple[str, ...]:
    """A numbered prompt is taken once in its cell; others may be timed again."""
    return prompt_key(sample) if sample.index is not None else (repr(sample),)


@contextmanager
def _standing(folder: Path) -> Iterator[None]:
    """Of a run that goes on: its folder stays and takes files."""
    try:
        yield
    except OSError as error:
        raise FolderLost(
            f"{folder}: to stay and to take files until its run ends, got {error.strerror or error}"
        ) from error


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _cell(value: object) -> object:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    return _dumps(value) if isinstance(value, dict | list) else value
