"""What a person sees while a run goes on: a live line on a terminal, plain lines elsewhere."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from pcbench.differences import Difference
from pcbench.harness.duration import Remaining, spoken
from pcbench.system.terminal import Terminal, visible
from pcbench.types import Record

__all__ = ["Progress", "describe"]


class _Left(ProgressColumn):
    """How long the run still takes, as it is drawn."""

    def __init__(self, remaining: Remaining) -> None:
        super().__init__()
        self.remaining = remaining

    def render(self, task: Task) -> Text:
        return Text(_left(self.remaining))


class Progress:
    """Counts finished cells and says how long the rest takes.

    Args:
        cells: how many there will be.
        done: how many an earlier run finished.
        console: where to print.
        remaining: of the run; told of every pass.
        names: cell → what people call it.
    """

    def __init__(
        self, cells: int, done: int, console: Terminal, remaining: Remaining, names: Mapping[str, str]
    ) -> None:
        self.console, self.remaining, self.names = console, remaining, names
        self.bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _Left(remaining),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.cells, self.done = cells, done
        self.task = self.bar.add_task("starting", total=cells, completed=done)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def working(self, text: str, *cells: str) -> None:
        """What is being measured now, and the cells of which a pass begins."""
        for cell in cells:
            self.remaining.began(cell)
        self.bar.update(self.task, description=visible(text))

    def finished(self, record: Record) -> None:
        """One cell has its record."""
        self.done += 1
        self.remaining.finished(record.cell)
        self.bar.update(self.task, completed=self.done)
        left = "" if self.done == self.cells else f", {_left(self.remaining)}"
        self.say(f"[{self.done}/{self.cells}{left}] {self.names[record.cell]}: {describe(record)}")

    def say(self, text: str) -> None:
        """A line that stays."""
        self.bar.console.print(text)


def _left(remaining: Remaining) -> str:
    return f"about {spoken(remaining.left())} left"


def describe(record: Record) -> str:
    """What came out of a cell, in a line that follows its name."""
    if record.status != "ok":
        return f"{record.status}: {record.reason}"
    parts = []
    if record.ms_p50 is not None:
        parts.append(f"{record.ms_p50:.4f} ms" if record.op else f"{record.ms_p50 / 1e3:.2f} s")
    if record.served_ms_p50 is not None:
        rate = record.served_tokens_per_s
        parts.append(f"first token in {record.served_ms_p50 / 1e3:.2f} s" + (f", {rate:.1f} tokens/s" if rate else ""))
    if record.speedup_vs_baseline is not None:
        parts.append(f"{record.speedup_vs_baseline:.2f}x {record.baseline}")
    if record.speedup_vs_full is not None:
        parts.append(f"{record.speedup_vs_full:.2f}x {record.baseline}")
    if record.decode_speedup_vs_full is not None:
        parts.append(f"a token in {record.decode_ms_per_token:.1f} ms ({record.decode_speedup_vs_full:.2f}x full)")
    if record.speedup_vs_reference is not None:
        parts.append(f"{record.speedup_vs_reference:.2f}x reference")
    if record.chunks_that_fit is not None:
        parts.append(f"{record.chunks_that_fit} chunks fit in {(record.budget_bytes or 0) / 2**20:.0f} MiB")
    elif record.longest_context_tokens is not None:
        parts.append(f"{record.longest_context_tokens} tokens fit in {(record.budget_bytes or 0) / 2**20:.0f} MiB")
    if record.fit_ratio is not None:
        parts.append(f"{record.fit_ratio:.2f}x without token eviction")
    if record.score is not None:
        parts.append(f"{record.score_name} {record.score * 100:.4g} % of {record.n_samples} ({record.scorer})")
    if record.nll is not None:
        shown = "10^18 or more" if record.perplexity is None else f"{record.perplexity:.4g}"
        parts.append(f"perplexity {shown}, {record.nll:.4f} nats a token of {record.n_samples} windows")
    if record.nll_vs_full is not None:
        parts.append(_loss_change(record))
    if record.skipped_records:
        parts.append(f"{record.skipped_records} of its records skipped")
    if record.score_vs_full is not None:
        low, high, p = record.score_vs_full_ci_low, record.score_vs_full_ci_high, record.score_vs_full_p
        words = Difference(record.score_vs_full, low, high, p, record.score_vs_full_pairs).words()
        interval = "" if low is None or high is None else f" [{low * 100:+.1f}, {high * 100:+.1f}]"
        parts.append(f"{record.score_vs_full * 100:+.1f}{interval} against full attention: {words}")
    return ", ".join(parts) or "ok"


def _loss_change(record: Record) -> str:
    low, high = record.nll_vs_full_ci_low, record.nll_vs_full_ci_high
    found = Difference(record.nll_vs_full or 0.0, low, high, None, record.nll_vs_full_pairs)
    interval = "" if low is None or high is None else f" [{low:+.4f}, {high:+.4f}]"
    return f"{found.mean:+.4f}{interval} nats against full attention: {found.words()}"
