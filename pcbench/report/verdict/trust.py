"""Can these numbers be trusted? What a careful reader would ask first."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Literal

from pcbench.report.page.tables import Column, Table, identity, table
from pcbench.report.reading.results import RESTLESS, Entry, Results
from pcbench.report.wording import counted, number, percent
from pcbench.statistics import MIN_SAMPLES

__all__ = ["Finding", "Trust", "trust"]

Level = Literal["good", "note", "bad"]
SAME_IN_A_RUN = ("commit", "dirty", "gpu", "arch", "torch", "runtime")
NAMED_CELLS = 3
# what the warnings of other floors say
BASELINE, OTHERS, UNSTEADY = "published", "on the GPU", "not steady after"


@dataclass(frozen=True)
class Finding:
    """One thing a reader should know before believing the numbers."""

    level: Level
    topic: str
    text: str


@dataclass(frozen=True)
class Trust:
    """Findings, the cells that did not end well, and the warnings of all cells."""

    findings: list[Finding]
    failures: Table | None
    warnings: Table | None


def trust(results: Results) -> Trust:
    """What speaks for and against the report's numbers."""
    makers = (
        _parity,
        _withheld,
        _coverage,
        _baseline,
        _warmup,
        _repeats,
        _noise,
        _outliers,
        _telemetry,
        _commits,
        _mixed,
    )
    findings = [finding for make in makers for finding in make(results)]
    failed = [e for e in results.entries if e.record.status != "ok"]
    failures = None
    if failed:
        columns = [
            *identity(results, status=True, exact=True),
            Column("reason", lambda e: e.record.reason or "none given", "text", last=True),
        ]
        failures = table("Cells that are not ok", columns, failed)
    return Trust(findings, failures, _warnings(results))


def _parity(results: Results) -> Iterator[Finding]:
    failed = [e for e in results.entries if e.record.status == "parity_failed"]
    checked = [e for e in results.entries if e.usable and e.record.backend != "torch"]
    if failed:
        text = f"{counted(len(failed), 'cell')} failed against the float64 reference, without speeds: {_names(failed)}."
        yield Finding("bad", "parity", text)
    if checked:
        worst = max(checked, key=lambda e: e.parity_ratio or 0.0)
        text = f"{counted(len(checked), 'cell')} held against the float64 reference on their own tensors passed; "
        yield Finding(
            "good", "parity", text + f"the worst op uses {number(worst.parity_ratio)} of its bound ({worst.name})."
        )
    if unheld := [e for e in results.entries if e.usable and not e.held]:
        text = f"{counted(len(unheld), 'cell')} on torch alone not held against the reference, without speed-ups: "
        yield Finding("note", "parity", text + _names(unheld) + ".")
    if not checked and not failed:
        yield Finding("note", "parity", "No cell was held against the reference.")


def _withheld(results: Results) -> Iterator[Finding]:
    unchecked = [e for e in results.entries if e.record.status == "ok" and not e.checked]
    if unchecked:
        text = f"{counted(len(unchecked), 'cell')} ended ok without a parity within its bound, numbers not shown: "
        yield Finding("bad", "withheld", text + _names(unchecked) + ".")
    unnamed = [e for e in results.entries if e.usable and e.record.score is not None and not e.record.scorer]
    if unnamed:
        yield Finding(
            "bad", "withheld", f"{counted(len(unnamed), 'score')} without a scorer, not shown: {_names(unnamed)}."
        )


def _coverage(results: Results) -> Iterator[Finding]:
    for run in results.runs:
        if run.missing:
            planned = len(run.planned)
            text = f"{planned - run.missing:,} of {planned:,} planned cells have a record{_in(results, run.name)}: "
            text += "the run was interrupted or goes on."
            yield Finding("bad", "coverage", text)


def _warmup(results: Results) -> Iterator[Finding]:
    """What only a first pass does, compiling above all, and whether it is among the times."""
    known = [(e, first) for e in results.entries if (first := e.first_pass) is not None]
    warm = [(e, first) for e, first in known if e.record.warmup_ms]
    cold = [(e, first) for e, first in known if not e.record.warmup_ms]
    if warm:
        passes = [len(e.record.warmup_ms or ()) for e, _ in warm]
        span = " to ".join(dict.fromkeys((f"{min(passes)}", f"{max(passes)}")))
        text = f"Untimed passes before the times of {counted(len(warm), 'cell')}: {span}. {_largest(warm)}"
        yield Finding("good", "warm-up", text)
    if cold:
        slow = [e for e, first in cold if first > 1 + RESTLESS]
        text = f"No pass but that of parity, if any, came before the times of {counted(len(cold), 'cell')}. "
        yield Finding("bad" if slow else "note", "warm-up", text + _largest(cold))
    unsteady = [e for e, _ in known if any(UNSTEADY in w for w in e.record.warnings)]
    if unsteady:
        text = f"Passes were not steady when timing began in {counted(len(unsteady), 'cell')}: {_names(unsteady)}."
        yield Finding("bad", "warm-up", text)


def _largest(found: list[tuple[Entry, float]]) -> str:
    entry, ratio = max(found, key=lambda pair: pair[1])
    return f"The first pass took up to {number(ratio, digits=3)} times the median ({entry.name})."


def _repeats(results: Results) -> Iterator[Finding]:
    repeats = [e.record.repeats or 0 for e in results.entries if e.timed]
    if not repeats:
        yield Finding("note", "repeats", "No cell has times.")
        return
    low, high = min(repeats), max(repeats)
    count = f"{low}" if low == high else f"{low} to {high}"
    if low < MIN_SAMPLES:
        text = (
            f"Repeats a timed cell: {count}. Under {MIN_SAMPLES} there are no intervals, and no difference is claimed."
        )
        yield Finding("note", "repeats", text)
    else:
        yield Finding("good", "repeats", f"Repeats a timed cell: {count}, interleaved.")


def _noise(results: Results) -> Iterator[Finding]:
    noisy = [(e.noise, e) for e in results.entries if e.noise is not None]
    if not noisy:
        return
    noise, worst = max(noisy, key=lambda pair: pair[0])
    restless = sum(n > RESTLESS for n, _ in noisy)
    text = f"(p90−p10)/p50 is {percent(median(n for n, _ in noisy))} % in the median cell "
    text += f"and {percent(noise)} % in the noisiest ({worst.name}); each cell's stands in the table of times."
    if restless:
        text += f" Above {percent(RESTLESS)} % in {counted(restless, 'cell')}: something else used the machine?"
    yield Finding("bad" if restless else "note", "noise", text)


def _commits(results: Results) -> Iterator[Finding]:
    for run in results.runs:
        for commit, dirty in dict.fromkeys((r.commit, r.dirty) for r in run.records):
            where = _in(results, run.name)
            if commit is None:
                yield Finding("note", "commit", f"The records name no commit{where}: the code cannot be found again.")
            elif dirty:
                yield Finding(
                    "note", "commit", f"{commit[:12]} with uncommitted changes{where}: the code was not exactly this."
                )
            else:
                text = f"{commit[:12]}, {'no uncommitted changes' if dirty is False else 'changes unknown'}{where}."
                yield Finding("good" if dirty is False else "note", "commit", text)


def _mixed(results: Results) -> Iterator[Finding]:
    for run in results.runs:
        mixed = [name for name in SAME_IN_A_RUN if len({getattr(r, name) for r in run.records}) > 1]
        if mixed:
            yield Finding("bad", "mixed", f"Records of one run differ in {', '.join(mixed)}{_in(results, run.name)}.")
    if len(results.runs) > 1:
        differing = [name for name in SAME_IN_A_RUN if results.varies(name)]
        text = (
            f"The runs differ in {', '.join(differing)}" if differing else "The runs share commit, hardware and torch"
        )
        yield Finding("note", "runs", f"{text}; speed-ups are within a run only.")


def _baseline(results: Results) -> Iterator[Finding]:
    """Whether full attention scores what was published for it; the accuracy suites warn where it does not."""
    warned = [e for e in results.entries if any(BASELINE in w for w in e.record.warnings)]
    if warned:
        text = f"Full attention's score is not the published one in {counted(len(warned), 'cell')}: {_names(warned)}; "
        yield Finding("bad", "baseline", text + "see the warnings below.")


def _outliers(results: Results) -> Iterator[Finding]:
    counts = [(e.record.outliers, e) for e in results.entries if e.timed and e.record.outliers is not None]
    if not counts:
        return
    times = sum(e.record.repeats or 0 for _, e in counts)
    found = [(count, e) for count, e in counts if count]
    total = sum(count for count, _ in found)
    text = f"{total:,} of {times:,} times lie beyond 1.5 interquartile ranges; none was dropped."
    if found:
        text += f" Most of them: {_names([e for _, e in sorted(found, key=lambda pair: -pair[0])])}."
    yield Finding("note" if found else "good", "outliers", text)


def _telemetry(results: Results) -> Iterator[Finding]:
    shared = [e for e in results.entries if any(OTHERS in w for w in e.record.warnings)]
    if shared:
        text = f"Other processes used the device beside {counted(len(shared), 'cell')}: {_names(shared)}."
        yield Finding("bad", "shared", text)
    watched = [(e, e.record.telemetry_summary) for e in results.entries if e.record.telemetry_summary]
    told = [(e, found) for e, found in watched if "throttled_ratio" in found]
    slowed = [e for e, found in told if float(found["throttled_ratio"]) > 0]
    if slowed:
        yield Finding(
            "bad", "throttling", f"Clocks were held down in {counted(len(slowed), 'cell')}: {_names(slowed)}."
        )
    elif told:
        yield Finding("good", "throttling", f"None seen in {counted(len(told), 'cell')}.{_clocks(told)}")
    if len(told) < len(watched):
        unknown = counted(len(watched) - len(told), "cell")
        yield Finding("note", "throttling", f"The driver did not tell of {unknown} whether clocks were held down.")
    if any(r.telemetry in (None, "none") for run in results.runs for r in run.records):
        yield Finding("note", "telemetry", "Clocks, temperature and other users of the device were not watched.")


def _clocks(watched: list[tuple[Entry, dict[str, float | str]]]) -> str:
    """The range of clocks and temperatures over the cells."""
    said = []
    for title, low, high in (("Clock", "sm_clock_mhz_min", "sm_clock_mhz_max"), ("Hottest", "temperature_c_max", "")):
        values = [float(found[name]) for _, found in watched for name in (low, high) if name in found]
        if values:
            unit = "MHz" if "mhz" in low else "°C"
            span = {f"{min(values):,.0f}": None, f"{max(values):,.0f}": None}
            said.append(f" {title} {' to '.join(span)} {unit}.")
    return "".join(said)


def _warnings(results: Results) -> Table | None:
    """Each warning once, with the cells that gave it."""
    found: dict[str, list[Entry]] = {}
    for entry in results.entries:
        for warning in entry.record.warnings:
            found.setdefault(warning, []).append(entry)
    if not found:
        return None
    rows = [[warning, number(len(entries)), _names(entries)] for warning, entries in found.items()]
    return Table("Warnings", [("warning", "text"), ("cells", "number"), ("for example", "text")], rows)


def _names(entries: list[Entry]) -> str:
    more = len(entries) - NAMED_CELLS
    return "; ".join(e.name for e in entries[:NAMED_CELLS]) + (f" and {more:,} more" if more > 0 else "")


def _in(results: Results, run: str) -> str:
    return f" ({run})" if len(results.runs) > 1 else ""
