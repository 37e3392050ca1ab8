"""Which method at which budget: cells as choices of a score, a time and bytes of keys and values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pcbench.report.reading.results import Entry, Results
from pcbench.report.verdict.tradeoffs import without_twins
from pcbench.report.wording import Estimate, interval, number, spread

__all__ = ["MIB", "QUESTIONS", "Place", "Question", "front", "places", "steps", "words"]

MIB = 1 / (1 << 20)
# choices are of one budget up to this ratio of bytes: room for an answer counts in some and not in others
SAME_BUDGET = 1.3
# methods beside full attention that make a choice; names said of those that no interval tells apart
METHODS, SAID = 2, 4


@dataclass(frozen=True)
class Question:
    """What is asked of a budget.

    Args:
        name: `best score`.
        value: of an entry, None where it was not measured.
        most: whether more is better.
        say: a value with its interval.
    """

    name: str
    value: Callable[[Entry], Estimate | None]
    most: bool
    say: Callable[[Estimate], str]


def _milliseconds(value: Estimate) -> str:
    return f"{number(value.value)} ms {interval(value)}"


QUESTIONS = (
    Question(
        "best score", lambda e: e.score, True, lambda s: f"{number(s.value, 100)} {spread(s.low, s.high)}".rstrip()
    ),
    Question("fastest decoding", lambda e: e.decode, False, _milliseconds),
    Question("fastest prefill", lambda e: e.prefill, False, _milliseconds),
)


@dataclass(frozen=True)
class Place:
    """Choices that may be held against each other.

    Args:
        title: workload and length.
        full: full attention's cell.
        choices: the others, with bytes of keys and values; fewest first.
    """

    title: str
    full: Entry
    choices: list[Entry]

    def share(self, entry: Entry) -> float:
        """Bytes of keys and values over full attention's."""
        return (entry.record.kv_bytes or 0) / (self.full.record.kv_bytes or 1)


def places(results: Results) -> list[Place]:
    """Of every run, workload and length where at least two methods stand beside full attention; most methods first."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in without_twins(results.shown_in("budgets")):
        if entry.usable and entry.record.kv_bytes and not entry.record.is_full:
            groups.setdefault((entry.run, entry.record.group), []).append(entry)
    found = []
    for entries in groups.values():
        full = results.stock_of(entries[0])
        methods = {e.record.method for e in entries}
        if full is not None and full.record.kv_bytes and len(methods) >= METHODS:
            ordered = sorted(entries, key=lambda e: (e.record.kv_bytes or 0, e.series.index))
            tokens = full.record.context_tokens
            title = full.panel if tokens is None else f"{full.panel}, {tokens:,} tokens"
            found.append(Place(title, full, ordered))
    return sorted(
        found, key=lambda p: (-len({e.record.method for e in p.choices}), -(p.full.record.context_tokens or 0))
    )


def steps(place: Place) -> list[list[Entry]]:
    """The choices by budget, smallest first."""
    budgets: list[list[Entry]] = []
    for entry in place.choices:
        least = budgets[-1][0].record.kv_bytes or 0 if budgets else 0
        if (entry.record.kv_bytes or 0) > least * SAME_BUDGET:
            budgets.append([])
        budgets[-1].append(entry)
    return budgets


def words(place: Place) -> list[str]:
    """A sentence a budget: who is best at what, or that nobody can tell."""
    return [f"{_size(place, entries)}: {'; '.join(said)}." for entries in steps(place) if (said := _answers(entries))]


def _size(place: Place, entries: Sequence[Entry]) -> str:
    sizes = [number(e.record.kv_bytes, MIB, digits=3) for e in (entries[0], entries[-1])]
    shares = [number(place.share(e), 100, digits=2) for e in (entries[0], entries[-1])]
    span, share = (" to ".join(dict.fromkeys(ends)) for ends in (sizes, shares))
    return f"{place.title}, {span} MiB of keys and values ({share} % of full attention's)"


def _answers(entries: Sequence[Entry]) -> list[str]:
    said = []
    for question in QUESTIONS:
        known = [(e, value) for e in entries if (value := question.value(e)) is not None]
        if len(known) > 1:
            said.append(f"{question.name}: {_answer(question, known)}")
    return said


def _answer(question: Question, known: Sequence[tuple[Entry, Estimate]]) -> str:
    """The best, unless the interval of another reaches into its own."""
    sign = -1 if question.most else 1
    ordered = sorted(known, key=lambda one: sign * one[1].value)
    (first, value), rest = ordered[0], ordered[1:]
    alike = [e for e, other in rest if not _apart(value, other)]
    if not alike:
        return f"{first.series.label} {question.say(value)}"
    names = [e.series.label for e in (first, *alike)]
    more = f" and {len(names) - SAID} more" if len(names) > SAID else ""
    behind = [e.series.label for e, _ in rest if e not in alike]
    worse = f", which are ahead of {_listed(behind)}" if behind else ""
    return f"cannot tell between {', '.join(names[:SAID])}{more} (best {question.say(value)}){worse}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SAID]) + (f" and {len(names) - SAID} more" if len(names) > SAID else "")


def _apart(a: Estimate, b: Estimate) -> bool:
    """Whether two intervals have nothing in common; without one nothing can be told."""
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return False
    return a.low > b.high or b.low > a.high


def front(points: Sequence[tuple[float, float]], *, most: bool) -> list[bool]:
    """Whether no other point is as good in both and better in one: x least, y most or least."""
    sign = -1 if most else 1
    goods = [(x, sign * y) for x, y in points]
    return [not any(a <= x and b <= y and (a, b) != (x, y) for a, b in goods) for x, y in goods]
