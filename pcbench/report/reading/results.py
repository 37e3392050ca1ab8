"""The records of a report as entries: named, placed in a series and a panel, and split into usable and not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from pcbench.report.reading.kinds import sections_of
from pcbench.report.reading.runs import Run
from pcbench.report.wording import Estimate
from pcbench.suites.labels import labels
from pcbench.suites.parameters import as_text, flat, varying
from pcbench.types import Record

__all__ = ["FULL_HUE", "RESTLESS", "Entry", "Results", "Series", "error_ratio"]

# that of full attention, and of what stands for several things
FULL_HUE = -1
# noise beyond which a median of few repeats says little
RESTLESS = 0.25
# how the task of a record that averages others begins
AVERAGE = "average of "
# what a record says by null: weights that no scheme has changed
UNCHANGED = "unquantised"
# where these differ inside a run, the series' name says so
NAMED_WITHIN_RUN = {
    "suite": "suite {}",
    "device": "on {}",
    "dtype": "{}",
    "quantize": "{} weights",
    "seed": "seed {}",
}


@dataclass(frozen=True)
class Series:
    """One line of every figure.

    Args:
        index: fixes its marker in the whole report.
        label: what people call it.
        hue: fixes its colour there: full attention has `FULL_HUE`, its own; None takes `index`.
    """

    index: int
    label: str
    hue: int | None = None


@dataclass(frozen=True, eq=False)
class Entry:
    """One record in its run.

    Args:
        run: the run's name in this report.
        record: as measured.
        series: what people call it: the suite's label or the method's name, with what tells it from its neighbours.
        panel: workload, with model and kind where the report has several.
        parameters: the method's parameters that differ inside this report.
        choices: prompts behind `key_chunk_kept`.
    """

    run: str
    record: Record
    series: Series
    panel: str
    parameters: str
    choices: int | None

    @property
    def name(self) -> str:
        """How text refers to it: `ParallelComp on passkey, 8,192 tokens`."""
        return f"{self.series.label} on {self.place}"

    @property
    def place(self) -> str:
        """Its panel, and its shape or length where it has one."""
        r = self.record
        if r.shape is not None:
            return f"{self.panel} {r.shape}"
        return self.panel if r.context_tokens is None else f"{self.panel}, {r.context_tokens:,} tokens"

    @property
    def average(self) -> bool:
        """Whether it is the mean score of other cells, which has no tensors of its own to check."""
        return (self.record.task or "").startswith(AVERAGE)

    @property
    def parity_ratio(self) -> float | None:
        """Error over bound of the op that uses most of its bound; up to 1 is a pass."""
        if self.record.parity_err is None or self.record.parity_bound is None:
            return None
        return error_ratio(self.record.parity_err, self.record.parity_bound)

    @property
    def stock(self) -> bool:
        """Whether it is pcbench's own stock code: full attention, or a baseline of an op."""
        return self.record.is_full or (self.record.op is not None and self.record.backend == "torch")

    @property
    def held(self) -> bool:
        """Whether there was an op to check, or nothing to check; not so of other methods on torch alone."""
        return self.record.backend != "torch" or self.stock or self.average

    @property
    def checked(self) -> bool:
        """Whether its numbers may be shown: on torch alone, an average, or parity within its bound."""
        if self.record.backend == "torch" or self.average:
            return True
        ratio = self.parity_ratio
        return ratio is not None and ratio <= 1

    @property
    def usable(self) -> bool:
        return self.record.status == "ok" and self.checked

    @property
    def timed(self) -> bool:
        return self.usable and self.record.ms_p50 is not None

    @property
    def noise(self) -> float | None:
        """(p90 − p10) / p50."""
        r = self.record
        if not self.timed or r.ms_p10 is None or r.ms_p90 is None or not r.ms_p50:
            return None
        return (r.ms_p90 - r.ms_p10) / r.ms_p50

    @property
    def first_pass(self) -> float | None:
        """The first pass, timed or not, over the median; None where no record was kept of what came before."""
        r = self.record
        passes = [] if r.warmup_ms is None else [*r.warmup_ms[:1], *(r.samples_ms or ())]
        return passes[0] / r.ms_p50 if self.timed and passes and r.ms_p50 else None

    @property
    def prefill(self) -> Estimate | None:
        """Milliseconds, with the interval of the median."""
        r = self.record
        return self._estimate(None if r.op else r.ms_p50, r.ms_ci_low, r.ms_ci_high)

    @property
    def decode(self) -> Estimate | None:
        """Milliseconds a token of the answer."""
        r = self.record
        return self._estimate(r.decode_ms_per_token, r.decode_ms_ci_low, r.decode_ms_ci_high)

    @property
    def decode_vs_full(self) -> Estimate | None:
        return self._speedup("decode_speedup_vs_full")

    @property
    def vs_full(self) -> Estimate | None:
        return self._speedup("speedup_vs_full")

    @property
    def vs_reference(self) -> Estimate | None:
        return self._speedup("speedup_vs_reference")

    @property
    def vs_baseline(self) -> Estimate | None:
        return self._speedup("speedup_vs_baseline")

    @property
    def score(self) -> Estimate | None:
        """0…1; None where the scorer is not known."""
        r = self.record
        return self._estimate(r.score if r.scorer else None, r.score_ci_low, r.score_ci_high)

    @property
    def loss(self) -> Estimate | None:
        """Nats a token of a text."""
        r = self.record
        return self._estimate(r.nll, r.nll_ci_low, r.nll_ci_high)

    def _speedup(self, name: str) -> Estimate | None:
        """A ratio of the record with its interval; None where it was not held against the reference."""
        ratio = [getattr(self.record, f"{name}{end}") for end in ("", "_ci_low", "_ci_high")]
        return self._estimate(*ratio) if self.held else None

    def _estimate(self, value: float | None, low: float | None, high: float | None) -> Estimate | None:
        return None if value is None or not self.usable else Estimate(value, low, high)


def error_ratio(err: float, bound: float) -> float:
    """An exact result needs no room: 0 of bound 0 is 0."""
    if bound > 0:
        return err / bound
    return 0.0 if err == 0 else float("inf")


class Results:
    """Every record of the runs as an entry, ordered by run, panel, length and series.

    Args:
        runs: at least one.
    """

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self._by_name = {run.name: run for run in runs}
        found = sorted(self._entries(), key=self._place)
        self.entries = [entry for entry in found if entry.record.engine is None]
        # by serving engines: in a section of their own, beside nothing that pcbench has timed
        self.served = [entry for entry in found if entry.record.engine is not None]

    def run_of(self, entry: Entry) -> Run:
        return self._by_name[entry.run]

    def against(self, entry: Entry) -> list[Entry]:
        """The timed entries of the same group that its speed-ups are ratios to."""
        r, named = entry.record, (entry.record.baseline or "").split("/")[0]
        return [
            e
            for e in self._groups.get((entry.run, r.group), [])
            if (e.record.backend == "torch" and e.record.method == named)
            or (
                e.record.backend == "reference"
                and (e.record.method, e.record.method_config) == (r.method, r.method_config)
            )
        ]

    def noise(self, entry: Entry) -> float:
        """The largest (p90 − p10) / p50 of an entry and of what its speed-ups are ratios to."""
        return max((e.noise or 0.0 for e in (entry, *self.against(entry))), default=0.0)

    def of(self, run: Run) -> list[Entry]:
        return [entry for entry in self.entries if entry.run == run.name]

    def shown_in(self, section: str, run: Run | None = None) -> list[Entry]:
        """Entries of the kinds that have a section, of all runs or of one."""
        entries = self.entries if run is None else self.of(run)
        return [entry for entry in entries if section in sections_of(entry.record.kind)]

    def stock_of(self, entry: Entry) -> Entry | None:
        """Full attention's entry of the same group, which an entry is compared with; its named baseline first."""
        stock = self._stock.get((entry.run, entry.record.group), [])
        named = (entry.record.baseline or "").split("/")[0]
        return next((e for e in stock if e.record.method == named), stock[0] if stock else None)

    def varies(self, name: str) -> bool:
        """Whether a record field has more than one value in the report."""
        return len({as_text(getattr(record, name)) for run in self.runs for record in run.records}) > 1

    @cached_property
    def _groups(self) -> dict[tuple[str, str], list[Entry]]:
        found: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            if entry.timed:
                found.setdefault((entry.run, entry.record.group), []).append(entry)
        return found

    @cached_property
    def _stock(self) -> dict[tuple[str, str], list[Entry]]:
        """(run, group) → usable entries of full attention."""
        found: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            if entry.record.is_full and entry.usable:
                found.setdefault((entry.run, entry.record.group), []).append(entry)
        return found

    @cached_property
    def _panels(self) -> list[str]:
        return list(dict.fromkeys(self._panel(record) for run in self.runs for record in run.records))

    @cached_property
    def varying_parameters(self) -> dict[str, list[str]]:
        """Method → dotted names of parameters with more than one value, or that only some records have."""
        configs: dict[str, dict[str, dict[str, str]]] = {}
        for run in self.runs:
            for record in run.records:
                texts = {path: as_text(value) for path, value in flat(record.method_config)}
                configs.setdefault(record.method, {})[str(texts)] = texts
        return {method: varying(list(found.values())) for method, found in configs.items()}

    def _entries(self) -> Iterator[Entry]:
        series: dict[str, Series] = {}
        hues: dict[str, int] = {}
        called = iter(labels([record for run in self.runs for record in run.records]))
        for run in self.runs:
            within = [n for n in NAMED_WITHIN_RUN if len({getattr(r, n) for r in run.records}) > 1]
            for record in run.records:
                label = self._label(next(called), record, run, within)
                hue = (
                    FULL_HUE
                    if record.is_full or record.engine
                    else hues.setdefault(self._coloured(record, label), len(hues))
                )
                placed = series.setdefault(label, Series(len(series), label, hue))
                choices = run.prompts.choices.get(record.cell)
                yield Entry(run.name, record, placed, self._panel(record), self._parameters(record), choices)

    def _coloured(self, record: Record, label: str) -> str:
        """What has a colour of its own: a method, or of a single method each of its settings."""
        methods = {r.method for run in self.runs for r in run.records if not (r.is_full or r.engine)}
        return record.method if len(methods) > 1 else label

    def _label(self, name: str, record: Record, run: Run, within: list[str]) -> str:
        values = {field: getattr(record, field) for field in within}
        said = [NAMED_WITHIN_RUN[field].format(UNCHANGED if x is None else x) for field, x in values.items()]
        head = ", ".join([name, *said])
        return head if len(self.runs) == 1 else f"{head} · {run.name}"

    def _panel(self, record: Record) -> str:
        names = [record.op or record.workload]
        names += [getattr(record, name) for name in ("model", "kind") if self.varies(name)]
        return " · ".join(name for name in names if name)

    def _parameters(self, record: Record) -> str:
        varying = self.varying_parameters.get(record.method, [])
        values = dict(flat(record.method_config))
        return " ".join(f"{path}={as_text(values[path])}" for path in varying if path in values)

    @cached_property
    def _place(self) -> Callable[[Entry], tuple[int, int, int, int, int]]:
        runs = {run.name: i for i, run in enumerate(self.runs)}
        panels = {panel: i for i, panel in enumerate(self._panels)}
        shapes = {shape: i for i, shape in enumerate(dict.fromkeys(r.shape for run in self.runs for r in run.records))}

        def place(e: Entry) -> tuple[int, int, int, int, int]:
            r = e.record
            return runs[e.run], panels[e.panel], shapes[r.shape], r.context_tokens or 0, e.series.index

        return place
