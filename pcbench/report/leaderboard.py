"""Cells of many runs as tables to sort, apart by machine and model: across them nothing may be compared."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pcbench.errors import DataMissing
from pcbench.plain_files import write_for
from pcbench.report.page.parts import Block, Section
from pcbench.report.page.tables import Column, Table, parity, table
from pcbench.report.page.templates import filled_in
from pcbench.report.reading.results import Entry, Results
from pcbench.report.reading.runs import read_runs
from pcbench.report.verdict.changes import Change, score_change
from pcbench.report.verdict.losses import loss_change, nats_span
from pcbench.report.wording import (
    Estimate,
    counted,
    interval,
    number,
    peak_spread,
    percent,
    points_span,
    signed,
    spread,
)
from pcbench.suites.labels import labels

__all__ = ["HOW", "build_leaderboard", "tables"]

MIB = 1 / (1 << 20)
NONE = "(no interval)"
HOW = (
    "Square brackets hold 95 % intervals. A speed-up is a ratio to full attention in the same dtype over the same "
    "weights, of kernels to the fastest stock code, in the cell's own run; a time depends on what else its machine did "
    "then. A cell whose ops were not held against the reference, or failed, has no speed. Scores of different scorers "
    "stand in different columns. Serving engines have no rows."
)


def build_leaderboard(folders: Sequence[Path], out: Path) -> Path:
    """Writes the page of some runs.

    Args:
        folders: run folders, or reports that hold runs.
        out: the file.

    Returns:
        The path of the file.

    Raises:
        DataMissing: a folder without a manifest, or runs without a record.
        ConfigError: a run is not what pcbench writes, or the file cannot be written.
        DiskFull: there is no room for it.
    """
    results = Results(read_runs(folders))
    if not results.entries:
        raise DataMissing("leaderboard: runs with records, got none; go on with them by --resume")
    write_for("--out", out, _page(results))
    return out


def _hardware(results: Results, entry: Entry) -> str:
    """The machine of a cell: GPU or processor, architecture, driver or threads, ranks."""
    record, environment = entry.record, results.run_of(entry).manifest.get("environment", {})
    ranks = environment.get("ranks") or 1
    parts = [record.gpu or environment.get("cpu") or record.device, record.arch, record.runtime]
    return ", ".join([*(str(part) for part in parts if part), *([f"{ranks} ranks"] if ranks > 1 else [])])


def tables(results: Results) -> list[Table]:
    """Those of the page."""
    return [
        found
        for machine, models in _machines(results).items()
        for block in _blocks(results, machine, models)
        for found in block.tables
    ]


def _machines(results: Results) -> dict[str, dict[str, list[Entry]]]:
    """Machine → model → entries."""
    found: dict[str, dict[str, list[Entry]]] = {}
    for entry in results.entries:
        found.setdefault(_hardware(results, entry), {}).setdefault(entry.record.model, []).append(entry)
    return dict(sorted(found.items()))


def _page(results: Results) -> str:
    """Equal runs give equal text."""
    machines = _machines(results)
    known = {entry.record.model for entry in results.entries} - {""}
    said = (
        f"{counted(len(results.entries), 'cell')} of {counted(len(results.runs), 'run')} on "
        f"{counted(len(machines), 'machine')}" + (f" with {counted(len(known), 'model')}" if known else "") + ". "
        "Compare the rows of one table: each holds one machine, one model and one kind of measurement."
    )
    sections = [
        Section(f"machine-{i}", machine, _lead(models), _blocks(results, machine, models))
        for i, (machine, models) in enumerate(machines.items())
    ]
    return filled_in("leaderboard.html.j2", title="leaderboard", sentence=said, how=HOW, sections=sections)


def _lead(models: dict[str, list[Entry]]) -> str:
    entries = [entry for found in models.values() for entry in found]
    return f"{counted(len(entries), 'cell')} of {counted(len({e.run for e in entries}), 'run')}."


def _blocks(results: Results, machine: str, models: dict[str, list[Entry]]) -> list[Block]:
    """A block a model, a table a kind of measurement in it; kernels, which have no model, come last."""
    blocks = []
    for model, found in sorted(models.items(), key=lambda item: (not item[0], item[0])):
        kinds: dict[str, list[Entry]] = {}
        for entry in found:
            kinds.setdefault(entry.record.kind, []).append(entry)
        tables = [_table(results, f"{kind}: {model or 'ops'} on {machine}", rows) for kind, rows in kinds.items()]
        blocks.append(Block(model or "Kernels", tables=tables))
    return blocks


def _table(results: Results, caption: str, entries: Sequence[Entry]) -> Table:
    called = dict(zip(entries, labels([e.record for e in entries]), strict=True))
    rows = sorted(entries, key=lambda e: _place(e, called[e]))
    return table(caption, _columns(results, called), rows, filterable=True)


def _place(entry: Entry, label: str) -> tuple[str, str, int, bool, str]:
    """Cells of a workload and length stand together, full attention first; who is ahead, a click on a heading says."""
    r = entry.record
    return r.op or r.workload, r.shape or "", r.context_tokens or 0, not r.is_full, label


def _columns(results: Results, called: dict[Entry, str]) -> list[Column]:
    """What was measured, then what identifies a cell.

    Args:
        results: of the whole page.
        called: the entries of a table with their labels.
    """
    changes = {e: change for e in called if (change := score_change(results, e)) is not None}
    ended = any(e.record.status != "ok" for e in called)
    one_workload, one_dtype = (len({getattr(e.record, name) for e in called}) == 1 for name in ("workload", "dtype"))
    return [
        Column("method", lambda e: called[e], "text"),
        Column("workload", lambda e: "" if e.record.op else e.record.workload, "text", last=one_workload),
        Column("shape", lambda e: e.record.shape or "", "text"),
        Column("dtype", lambda e: e.record.dtype, "text", last=one_dtype),
        Column("weights", lambda e: e.record.quantize or "", "text"),
        Column("context tokens", lambda e: number(e.record.context_tokens)),
        *([Column("status", lambda e: e.record.status, "status")] if ended else []),
        *_speeds(),
        *_accuracies(called, changes),
        Column("peak (MiB)", _peak),
        Column("KV cache (MiB)", lambda e: number(e.record.compared_kv_bytes, MIB) if e.usable else ""),
        Column("parity (error / bound)", parity),
        *_identity(results),
    ]


def _speeds() -> list[Column]:
    """Empty where parity did not pass; what is stock code has nothing to hold."""
    return [
        Column("speed-up over full (×)", lambda e: _spanned(e.vs_full)),
        Column("decoding speed-up (×)", lambda e: _spanned(e.decode_vs_full)),
        Column("speed-up over stock code (×)", lambda e: _spanned(e.vs_baseline)),
        Column("prefill (ms)", lambda e: _spanned(e.prefill if e.held else None)),
        Column("decoding (ms/token)", lambda e: _spanned(e.decode if e.held else None)),
        Column("TFLOP/s", lambda e: number(e.record.tflops) if e.usable and e.held else ""),
        Column("GiB/s", lambda e: number(e.record.gib_per_s) if e.usable and e.held else ""),
    ]


def _accuracies(entries: Iterable[Entry], changes: dict[Entry, Change]) -> list[Column]:
    """Two columns a scorer, so that no click sorts scores of different ones; losses in their own."""
    scorers = sorted({e.record.scorer for e in entries if e.score is not None and e.record.scorer})
    return [
        *(column for scorer in scorers for column in _scores(scorer, changes)),
        Column("prompts", lambda e: number(e.record.n_samples) if e.score else ""),
        Column("loss (nats/token)", lambda e: _spanned(e.loss)),
        Column("loss minus full's", _nats),
    ]


def _scores(scorer: str, changes: dict[Entry, Change]) -> list[Column]:
    def score(entry: Entry) -> str:
        found = entry.score
        if found is None or entry.record.scorer != scorer:
            return ""
        return f"{percent(found.value)} {spread(found.low, found.high) or NONE}"

    def change(entry: Entry) -> str:
        if entry not in changes or entry.record.scorer != scorer:
            return ""
        difference = changes[entry].difference
        return f"{signed(difference.mean, 2)} {points_span(difference) or NONE}"

    return [Column(f"{scorer} (×100)", score), Column(f"{scorer} minus full's (points)", change)]


def _identity(results: Results) -> list[Column]:
    """Behind the numbers."""
    runs = {run.name: run for run in results.runs}
    return [
        Column("method / backend", lambda e: f"{e.record.method}/{e.record.backend}", "text", last=True),
        Column("PyTorch", lambda e: e.record.torch or "", "text", last=True),
        Column("run", lambda e: e.run, "text", last=True),
        Column("commit", lambda e: runs[e.run].commit, "text", last=True),
        Column("measured", lambda e: runs[e.run].day, "text", last=True),
    ]


def _spanned(found: Estimate | None) -> str:
    """`1.754 [1.690, 1.801]`, which sorts by its first number."""
    if found is None:
        return ""
    if found.low is None or found.high is None:
        return f"{number(found.value)} {NONE}"
    return f"{number(found.value)} {interval(found)}"


def _nats(entry: Entry) -> str:
    change = loss_change(entry)
    return "" if change is None else f"{signed(change.mean, 4)} {nats_span(change) or NONE}"


def _peak(entry: Entry) -> str:
    """`308.0 (263.1 to 331.0)`: the median of the passes, the least and the most."""
    r = entry.record
    if not entry.usable or r.peak_bytes is None:
        return ""
    passes = peak_spread(r.peak_samples_bytes)
    return number(r.peak_bytes, MIB) + (f" ({passes})" if passes else "")
