"""What `pcbench score` prints of its cards."""

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

__all__ = ["cells", "notes"]


def cells(card: dict[str, Any], dataset: str | None) -> list[str]:
    """A card's score of a dataset, None for its average, and the difference where there is one."""
    value = card["average"] if dataset is None else card["datasets"].get(dataset)
    found = ["–" if value is None else f"{value:.2f}"]
    if difference := card.get("difference"):
        one = difference if dataset is None else difference["datasets"].get(dataset, {})
        mean = one.get("average" if dataset is None else "difference")
        interval = "" if one.get("ci_low") is None else f" [{one['ci_low']:+.2f}, {one['ci_high']:+.2f}]"
        found.append("–" if mean is None else f"{mean:+.2f}{interval} {one['words']}")
    return found


def notes(card: dict[str, Any], scored: Collection[str]) -> Iterator[str]:
    """What the averages are over, and what was left out.

    Args:
        card: of one scorer.
        scored: datasets that some card has scored; of them no missing rule is told.
    """
    few = ", ".join(f"{name} {n}" for name, n in card["few"].items())
    yield f"average of {card['scorer']}: over {len(card['average_over'])} datasets" + (few and f"; few lines: {few}")
    yield from _repeated("ids repeated in {}", card["repeated_lines"])
    yield from (f"skipped {name}: {reason}" for name, reason in card["skipped"].items() if name not in scored)
    yield from _thoughts(card, "")
    yield from _lines("skipped {}", card["skipped_lines"])
    if difference := card.get("difference"):
        yield f"difference of {card['scorer']}: over {len(difference['average_over'])} datasets"
        yield from (f"no difference for {name}: {reason}" for name, reason in difference["skipped"].items())
        yield from _thoughts(difference, " of --against")
        yield from _repeated("ids repeated in {} of --against", difference["repeated_lines"])
        yield from _lines("skipped {} of --against", difference["skipped_lines"])
        yield from _lines("no partner for {}", difference["unpaired_lines"])


def _thoughts(card: dict[str, Any], whose: str) -> Iterator[str]:
    counts = [f"{name} {count}" for name, count in card.get("thoughts", {}).items()]
    if counts:
        yield f"{card['answer_rule']}: predictions{whose} scored without a thought: {', '.join(counts)}"


def _repeated(said: str, datasets: dict[str, list[int]]) -> Iterator[str]:
    for name, lines in datasets.items():
        yield f"{said.format(name)}: {_named(lines)} left out, the last of each id counts"


def _lines(said: str, lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines of one file for one reason together, with their number."""
    groups: dict[tuple[str, str], list[int]] = {}
    for one in lines:
        groups.setdefault((one["file"], one["reason"]), []).append(one["line"])
    for (file, reason), numbers in groups.items():
        yield f"{said.format(f'{file} {_named(numbers)}')}: {reason}"


def _named(numbers: Sequence[int]) -> str:
    """Ascending numbers as line 3, or lines 1–3, 7 (4)."""
    return f"line {numbers[0]}" if len(numbers) == 1 else f"lines {_spans(numbers)} ({len(numbers)})"


def _spans(numbers: Sequence[int]) -> str:
    """Ascending numbers as 1–3, 7."""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
