"""What a report is made from: manifests and records, from run folders or out of a report that holds them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pcbench.errors import ConfigError, DataMissing, unknown_name
from pcbench.records import RunFolder, read_records
from pcbench.report.prompts import Prompts, keep
from pcbench.report.thinning import Thinned, thin
from pcbench.types import Record

__all__ = ["DATA_ID", "Run", "embeddable", "read_runs"]

DATA_ID = "pcbench-data"
FORMAT = 2

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
    def planned(self) -> list[str]:
        """Cells of the manifest, without one those that have a record."""
        found: list[str] = self.manifest.get("cells", [record.cell for record in self.records])
        return found

    @property
    def missing(self) -> int:
        """Planned cells without a record. Averages have records and are not planned."""
        return len(set(self.planned) - {record.cell for record in self.records})


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
    found = [run for path in paths for run in (_from_report(path) if path.is_file() else [_from_folder(path)])]
    names = _unique([str(run.manifest.get("run", "run")) for run in found])
    return [replace(run, name=name) for name, run in zip(names, found, strict=True)]


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


def _unpacked_ops(flat: list[Any] | None, ops: list[str]) -> dict[str, dict[str, float]] | None:
    return flat and {ops[i]: {"err": e, "bound": b} for i, e, b in zip(*[iter(flat)] * 3, strict=True)}


def _default(name: str) -> Any:
    """What a field holds where a record says nothing; fields without a default never say nothing."""
    return None if DEFAULTS[name] is MISSING else DEFAULTS[name]


def _from_folder(path: Path) -> Run:
    folder = RunFolder(path)
    records, thinned = thin(read_records(path))
    return Run("", folder.manifest, records, keep(folder.samples.read()), thinned)


def _from_report(path: Path) -> list[Run]:
    finder = _DataFinder()
    try:
        finder.feed(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise DataMissing(f"{path}: a report written by pcbench, got no text; give the run's folder") from None
    finder.close()
    if not finder.found:
        raise DataMissing(f"{path}: a report written by pcbench, got a file without its data; give the run's folder")
    try:
        data = json.loads(finder.text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: whole embedded data, got {error}; rebuild from the folder") from None
    found = data.get("format") if isinstance(data, dict) else type(data).__name__
    if found != FORMAT:
        raise ConfigError(f"{path}: embedded data of format {FORMAT}, got {found}; rebuild from the folder")
    return [_unpacked(run, path) for run in data["runs"]]


def _unpacked(run: dict[str, Any], path: Path) -> Run:
    rows = [dict(zip(run["names"], row, strict=True)) for row in run["records"]]
    rows = [row | {"parity_ops": _unpacked_ops(row.get("parity_ops"), run["ops"])} | run["shared"] for row in rows]
    records = [_record(row, f"{path}: record {i}") for i, row in enumerate(rows, 1)]
    thinned = {cell: Thinned(**held) for cell, held in run["thinned"].items()}
    return Run("", run["manifest"], records, Prompts.unpacked(run["prompts"]), thinned)


def _record(data: dict[str, Any], where: str) -> Record:
    for name in data:
        if name not in DEFAULTS:
            raise unknown_name(where, "field", name, DEFAULTS)
    try:
        return _RECORD.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{where}: {first['msg']}, got {first['input']!r}; was the file edited?") from None


_RECORD: TypeAdapter[Record] = TypeAdapter(Record)


def _unique(names: list[str]) -> list[str]:
    """The second "a" becomes "a (2)"."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


class _DataFinder(HTMLParser):
    """The text of the script element that holds a report's data."""

    def __init__(self) -> None:
        super().__init__()
        self.found = self.inside = False
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script" and ("id", DATA_ID) in attrs:
            self.found = self.inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.text += data
