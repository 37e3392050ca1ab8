"""What a report is made from: manifests and records, from run folders or out of a report that holds them."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pcbench.config import Table, validate
from pcbench.errors import ConfigError, DataMissing, shown
from pcbench.json_text import parse_json
from pcbench.plain_files import read_text
from pcbench.records import checked_manifest, read_run
from pcbench.report.reading.prompts import PackedPrompts, Prompts, keep
from pcbench.report.reading.thinning import Thinned, thin
from pcbench.rows import ROWS
from pcbench.types import Record

__all__ = ["DATA_ID", "Run", "embeddable", "read_runs"]

DATA_ID = "pcbench-data"
FORMAT = 2
# the data is written without "<"
DATA = re.compile(rf'<script [^<>]*\bid="{DATA_ID}"[^<>]*>([^<]*)')
PAGE_BYTES = 1 << 28
COMMIT = 9
# what names a machine best, and what its maker adds to that
HARDWARE = ("gpu", "cpu", "device")
NOT_SAID = re.compile(r"\((?:R|TM)\)|(?: \d+-Core)? Processor$| CPU(?= @)", re.IGNORECASE)
# models of a title
NAMED = 3
DAY = re.compile(r"\d{4}-\d\d-\d\d")
REBUILD = "rebuild it from the run's folder"

DEFAULTS = {f.name: f.default_factory() if f.default_factory is not MISSING else f.default for f in fields(Record)}


@dataclass(frozen=True)
class Run:
    """One run as the report sees it.

    Args:
        name: unique in a report.
        manifest: manifest.json.
        records: in the order they were finished.
        prompts: what is kept of the samples.
        thinned: cell → what its `samples_ms` were before some were left out.
    """

    name: str
    manifest: dict[str, Any]
    records: list[Record]
    prompts: Prompts
    thinned: dict[str, Thinned]

    @property
    def title(self) -> str:
        """What people call it, by suite, hardware, model and day; its name where nothing of them is known.

        `prefill on AMD EPYC, smollm2-135m, 2026-11-30`
        """
        environment = self.manifest.get("environment") or {}
        hardware = next((x for name in HARDWARE if (x := environment.get(name))), "")
        suites = dict.fromkeys(record.suite for record in self.records) or [str(self.manifest.get("suite", ""))]
        head = " on ".join(filter(None, (", ".join(suites), _spoken(str(hardware)))))
        models = list(dict.fromkeys(record.model for record in self.records if record.model))
        models = models if len(models) <= NAMED else [f"{len(models)} models"]
        day = DAY.match(str(self.manifest.get("created_at", "")))
        return ", ".join(filter(None, (head, *models, day and day[0]))) or self.name

    @property
    def planned(self) -> list[str]:
        """Cells of the manifest, without one those that have a record."""
        found: list[str] = self.manifest.get("cells", [record.cell for record in self.records])
        return found

    @property
    def missing(self) -> int:
        """Planned cells without a record. Averages have records and are not planned."""
        return len(set(self.planned) - {record.cell for record in self.records})

    @property
    def commit(self) -> str:
        """Its first digits, with a `+` where files were changed."""
        environment = self.manifest.get("environment", {})
        commit = environment.get("commit")
        return f"{str(commit)[:COMMIT]}{'+' if environment.get('dirty') else ''}" if commit else "unknown"

    @property
    def day(self) -> str:
        """When it began, to the minute."""
        return str(self.manifest.get("created_at", "")).replace("T", " ", 1)[:16]


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs of folders and of reports, in the order given; equal names are numbered.

    Args:
        paths: run folders, or report files written by `build`.

    Raises:
        DataMissing: a folder without a manifest, a file without a report's data, or nothing given.
        ConfigError: the data of a file or a folder is not what pcbench writes.
    """
    if not paths:
        raise DataMissing("report: a run's folder, got none; give the folder of --out")
    found = [run for path in paths for run in ([_from_folder(path)] if _is_folder(path) else _from_report(path))]
    names = _unique([str(run.manifest.get("run", "run")) for run in found])
    return [replace(run, name=name) for name, run in zip(names, found, strict=True)]


def _is_folder(path: Path) -> bool:
    """Whether a run is looked for there: in a folder, and where nothing is."""
    return os.path.isdir(path) or not os.path.lexists(path)


def embeddable(runs: Iterable[Run]) -> dict[str, Any]:
    """The runs as plain data from which `read_runs` makes them again.

    Fields that all records of a run share stand once, null fields not at all.
    """
    return {"format": FORMAT, "runs": [_packed(run) for run in runs]}


def _packed(run: Run) -> dict[str, Any]:
    """Columns of what differs: names stand once."""
    rows = [{k: v for k, v in asdict(record).items() if v != DEFAULTS[k]} for record in run.records]
    shared = {k: v for k, v in rows[0].items() if all(k in row and row[k] == v for row in rows)} if rows else {}
    names = [name for name in DEFAULTS if name not in shared and any(name in row for row in rows)]
    ops = list(dict.fromkeys(op for row in rows for op in row.get("parity_ops") or ()))
    packed = [row | {"parity_ops": _packed_ops(row.get("parity_ops"), ops)} for row in rows]
    return {
        "manifest": run.manifest,
        "shared": shared,
        "names": names,
        "ops": ops,
        "records": [[row.get(name, _default(name)) for name in names] for row in packed],
        "prompts": run.prompts.packed(),
        "thinned": {cell: asdict(thinned) for cell, thinned in run.thinned.items()},
    }


def _packed_ops(found: dict[str, dict[str, float]] | None, ops: list[str]) -> list[float] | None:
    """Number of the op, error and bound, one op after the other."""
    return found and [x for op, parity in found.items() for x in (ops.index(op), parity["err"], parity["bound"])]


def _unpacked_ops(flat: Any, ops: list[str], where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(flat, list) or len(flat) % 3 or not set(map(repr, flat[::3])) <= set(map(repr, range(len(ops)))):
        raise ConfigError(f"{where}: number of an op, error and bound in turns, got {shown(flat)}; {REBUILD}")
    return {ops[i]: {"err": e, "bound": b} for i, e, b in zip(*[iter(flat)] * 3, strict=True)}


def _default(name: str) -> Any:
    """What a field holds where a record says nothing; fields without a default never say nothing."""
    return None if DEFAULTS[name] is MISSING else DEFAULTS[name]


def _from_folder(path: Path) -> Run:
    manifest, read, samples = read_run(path)
    records, thinned = thin(read)
    return Run("", manifest, records, keep(samples), thinned)


def _from_report(path: Path) -> list[Run]:
    found = DATA.search(read_text(path, PAGE_BYTES))
    if not found:
        raise DataMissing(f"{path}: a report written by pcbench, got a file without its data; give the run's folder")
    data = parse_json(found[1], f"{path}: data", remedy=REBUILD)
    version = data.get("format") if isinstance(data, dict) else data
    if type(version) is not int or version != FORMAT:
        raise ConfigError(f"{path}: data: format {FORMAT}, got {shown(version)}; {REBUILD}")
    page = validate(PackedPage, data, f"{path}: data", REBUILD)
    return [_unpacked(run, f"{path}: data.runs[{i}]") for i, run in enumerate(page.runs)]


class PackedTimes(Table):
    """What raw times were before some were left out."""

    count: Annotated[int, Field(ge=0)]
    sha256: str


class PackedRun(Table):
    """A run as `embeddable` writes it; its manifest, records and samples have tables of their own."""

    manifest: dict[str, Any]
    shared: dict[str, Any]
    names: list[str]
    ops: list[str]
    records: list[list[Any]]
    prompts: PackedPrompts
    thinned: dict[str, PackedTimes]


class PackedPage(Table):
    """The data inside a report."""

    format: int
    runs: list[PackedRun]


def _unpacked(run: PackedRun, where: str) -> Run:
    records = [_record(run, row, f"{where}.records[{i}]") for i, row in enumerate(run.records)]
    manifest = checked_manifest(run.manifest, f"{where}.manifest")
    thinned = {cell: Thinned(**held.model_dump()) for cell, held in run.thinned.items()}
    return Run("", manifest, records, run.prompts.unpacked(f"{where}.prompts"), thinned)


def _record(run: PackedRun, row: list[Any], where: str) -> Record:
    if len(row) != len(run.names):
        raise ConfigError(f"{where}: {len(run.names)} values, got {len(row)}; {REBUILD}")
    held = dict(zip(run.names, row, strict=True))
    if held.get("parity_ops") is not None:
        held["parity_ops"] = _unpacked_ops(held["parity_ops"], run.ops, f"{where}.parity_ops")
    record: Record = ROWS[Record].read(held | run.shared, where)
    return record


def _spoken(hardware: str) -> str:
    """`AMD EPYC 9654` of `AMD EPYC 9654 96-Core Processor`, `Intel Xeon` of `Intel(R) Xeon(R) Processor`."""
    return " ".join(NOT_SAID.sub(" ", hardware).split())


def _unique(names: list[str]) -> list[str]:
    """The second "a" becomes "a (2)"."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique
