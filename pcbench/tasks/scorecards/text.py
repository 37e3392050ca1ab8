"""What `pcbench score` prints of its cards."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from rich.table import Table

__all__ = ["notes", "table"]


def table(cards: Sequence[dict[str, Any]]) -> Table:
    """A row a dataset, each of its groups and the average, a column a card, with its difference where there is one."""
    made = Table(box=None, pad_edge=False)
    made.add_column("dataset", no_wrap=True)
    made.add_column("n", no_wrap=True, justify="right")
    for card in cards:
        made.add_column(card["scorer"], overflow="fold", justify="right")
        if "difference" in card:
            made.add_column("difference, 95 % interval")
    for dataset, n in _sizes(cards).items():
        made.add_row(dataset, str(n), *(cell for card in cards for cell in _cells(card, dataset)))
        sizes = {name: n for card in cards for name, n in card.get("group_n", {}).get(dataset, {}).items()}
        for group, size in sizes.items():
            made.add_row(
                f"  {group}", str(size), *_of_group(cards, [c.get("groups", {}).get(dataset) for c in cards], group)
            )
    made.add_section()
    made.add_row("average", "", *(cell for card in cards for cell in _cells(card, None)))
    averages = [card.get("group_average") for card in cards]
    for group in dict.fromkeys(name for found in averages for name in found or ()):
        made.add_row(f"  {group}", "", *_of_group(cards, averages, group))
    return made


def _of_group(cards: Sequence[dict[str, Any]], scores: Sequence[dict[str, float] | None], group: str) -> Iterator[str]:
    """The scores of a group; differences are of whole datasets."""
    for card, found in zip(cards, scores, strict=True):
        yield "–" if found is None or group not in found else f"{found[group]:.2f}"
        if "difference" in card:
            yield ""


def _sizes(cards: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Lines of every dataset that some card has scored."""
    return {name: n for card in cards for name, n in card["n"].items()}


def _cells(card: dict[str, Any], dataset: str | None) -> list[str]:
    """A card's score of a dataset, None for its average, and the difference where there is one."""
    value = card["average"] if dataset is None else card["datasets"].get(dataset)
    found = ["–" if value is None else f"{value:.2f}"]
    if difference := card.get("difference"):
        one = difference if dataset is None else difference["datasets"].get(dataset, {})
        mean = one.get("average" if dataset is None else "difference")
        interval = "" if one.get("ci_low") is None else f" [{one['ci_low']:+.2f}, {one['ci_high']:+.2f}]"
        found.append("–" if mean is None else f"{mean:+.2f}{interval} {one['words']}")
    return found


def notes(card: dict[str, Any], cards: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What the averages are over, and what was left out.

    Args:
        card: of one scorer.
        cards: of all scorers; of datasets that one of them has scored no missing rule is told.
    """
    scored = _sizes(cards)
    few = ", ".join(f"{name} {n}" for name, n in card["few"].items())
    yield f"average of {card['scorer']}: over {_datasets(card)}" + (few and f"; few lines: {few}")
    yield from _repeated("ids repeated in {}", card["repeated_lines"])
    yield from (f"skipped {name}: {reason}" for name, reason in card["skipped"].items() if name not in scored)
    yield from _thoughts(card, "")
    yield from _lines("skipped {}", card["skipped_lines"])
    if difference := card.get("difference"):
        yield f"difference of {card['scorer']}: over {_datasets(difference)}"
        yield from (f"no difference for {name}: {reason}" for name, reason in difference["skipped"].items())
        yield from _thoughts(difference, " of --against")
        yield from _repeated("ids repeated in {} of --against", difference["repeated_lines"])
        yield from _lines("skipped {} of --against", difference["skipped_lines"])
        yield from _lines("no partner for {}", difference["unpaired_lines"])


def _datasets(card: dict[str, Any]) -> str:
    count = len(card["average_over"])
    return f"{count} dataset{'' if count == 1 else 's'}"


def _thoughts(card: dict[str, Any], whose: str) -> Iterator[str]:
    counts = [f"{name} {count}" for name, count in card.get("thoughts", {}).items()]
    if counts:
        yield f"{card['answer_rule']}: predictions{whose} whose thought was cut before scoring: {', '.join(counts)}"


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
