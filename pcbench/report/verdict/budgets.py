"""Which method at which budget: cells as choices of a score, a time and bytes of keys and values."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pcbench.report.reading.results import Entry, Results
from pcbench.report.verdict.tradeoffs import without_twins
from pcbench.report.wording import Estimate, interval, number, spread
from pcbench.suites.labels import title

__all__ = ["MIB", "QUESTIONS", "Option", "Place", "Question", "apart", "front", "places", "steps", "words"]

MIB = 1 / (1 << 20)
# choices are of one budget up to this ratio of bytes: sizes are rounded, and older records count room for an answer
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
class Option:
    """A cell as a choice.

    Args:
        entry: the cell, or the average of several.
        kv_bytes: of keys and values of the prompt; of an average the mean.
    """

    entry: Entry
    kv_bytes: float

    @property
    def label(self) -> str:
        return self.entry.series.label


@dataclass(frozen=True)
class Place:
    """Choices that may be held against each other.

    Args:
        title: workload and length.
        full: full attention.
        options: the others, fewest bytes first.
    """

    title: str
    full: Option
    options: list[Option]

    def gain(self, option: Option) -> float:
        """How many times smaller its keys and values are than full attention's."""
        return self.full.kv_bytes / option.kv_bytes


def places(results: Results) -> list[Place]:
    """Of every run, workload and length where at least two methods stand beside full attention.

    Averages first, then where most methods are, then the longest.
    """
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in without_twins(results.shown_in("budgets")):
        if entry.usable:
            groups.setdefault((entry.run, entry.record.group), []).append(entry)
    held = _held([e for entries in groups.values() for e in entries])
    found = []
    for entries in groups.values():
        known = [Option(e, held[_key(e, e.average)]) for e in entries if held.get(_key(e, e.average))]
        full = next((option for option in known if option.entry.record.is_full), None)
        options = [option for option in known if not option.entry.record.is_full]
        if full is not None and len({option.entry.record.method for option in options}) >= METHODS:
            ordered = sorted(options, key=lambda o: (o.kv_bytes, o.entry.series.index))
            tokens = full.entry.record.context_tokens
            title = full.entry.panel if tokens is None else f"{full.entry.panel}, {tokens:,} tokens"
            found.append(Place(title, full, ordered))
    return sorted(found, key=_rank)


def _rank(place: Place) -> tuple[bool, int, int]:
    full = place.full.entry
    methods = {option.entry.record.method for option in place.options}
    return not full.average, -len(methods), -(full.record.context_tokens or 0)


def _held(entries: Sequence[Entry]) -> dict[str, float]:
    """Bytes of keys and values of every cell and, of averages, the mean over the cells of the same method."""
    sizes: dict[str, list[int]] = {}
    for entry in entries:
        for average in (False, True):
            if (size := entry.record.compared_kv_bytes) and not entry.average:
                sizes.setdefault(_key(entry, average), []).append(size)
    return {key: sum(some) / len(some) for key, some in sizes.items()}


def _key(entry: Entry, average: bool) -> str:
    """Names a cell, or what is the same in all cells of an average."""
    r = entry.record
    of_all = [entry.run, r.suite, r.model, r.method, r.method_config, r.backend, r.dtype, r.quantize, r.seed]
    of_all.append(r.context_tokens)
    return json.dumps(of_all if average else [*of_all, r.workload], sort_keys=True)


def steps(place: Place) -> list[list[Option]]:
    """The choices by budget, smallest first."""
    budgets: list[list[Option]] = []
    for option in place.options:
        if not budgets or option.kv_bytes > budgets[-1][0].kv_bytes * SAME_BUDGET:
            budgets.append([])
        budgets[-1].append(option)
    return budgets


def words(place: Place) -> list[str]:
    """A sentence a budget: who is best at what, or that nobody can tell."""
    return [f"{_size(place, options)}: {'; '.join(said)}." for options in steps(place) if (said := _answers(options))]


def _size(place: Place, options: Sequence[Option]) -> str:
    ends = (options[0], options[-1])
    sizes = [number(o.kv_bytes, MIB, digits=3) for o in ends]
    times = [number(place.gain(o), digits=3) for o in reversed(ends)]
    span, smaller = (" to ".join(dict.fromkeys(ends)) for ends in (sizes, times))
    return f"{place.title}, {span} MiB of keys and values ({smaller} times smaller than full attention's)"


def _answers(options: Sequence[Option]) -> list[str]:
    said = []
    methods = [o.entry.record.method for o in options]
    for question in QUESTIONS:
        known = [(_name(o, methods), value) for o in options if (value := question.value(o.entry)) is not None]
        if len(known) > 1:
            said.append(f"{question.name}: {_answer(question, known)}")
    return said


def _name(option: Option, methods: Sequence[str]) -> str:
    """The method's, unless several of the budget have it."""
    method = option.entry.record.method
    return option.label if methods.count(method) > 1 else title(method)


def _answer(question: Question, known: Sequence[tuple[str, Estimate]]) -> str:
    """The best, unless the interval of another reaches into its own."""
    sign = -1 if question.most else 1
    ordered = sorted(known, key=lambda one: sign * one[1].value)
    (first, value), rest = ordered[0], ordered[1:]
    alike = [one for one in rest if not apart(value, one[1])]
    if not alike:
        return f"{first} {question.say(value)}"
    others = [one for one in rest if one not in alike]
    behind = [label for label, other in others if all(apart(other, near) for _, near in alike)]
    between = [label for label, _ in others if label not in behind]
    said = f"cannot tell between {_listed([first, *(label for label, _ in alike)])} (best {question.say(value)})"
    said += f", which are ahead of {_listed(behind)}" if behind else ""
    return said + (f"; {first} is ahead of {_listed(between)}" if between else "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SAID]) + (f" and {len(names) - SAID} more" if len(names) > SAID else "")


def apart(a: Estimate, b: Estimate) -> bool:
    """Whether two intervals have nothing in common; without one nothing can be told."""
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return False
    return a.low > b.high or b.low > a.high


def front(points: Sequence[tuple[float, float]], *, most: bool) -> list[bool]:
    """Whether no other point is as good in both and better in one: x least, y most or least."""
    sign = -1 if most else 1
    goods = [(x, sign * y) for x, y in points]
    return [not any(a <= x and b <= y and (a, b) != (x, y) for a, b in goods) for x, y in goods]
