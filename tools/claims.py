"""What the headlines of three papers compare, beside the like-for-like figures of our own records.

python tools/claims.py    writes reports/claims.md from reports/claims.toml and the records in reports/examples
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pcbench.config import Table, validate
from pcbench.errors import ConfigError
from pcbench.records import read_run
from pcbench.suites.parameters import as_text, flat
from pcbench.types import Record

__all__ = ["CLAIMS", "PAGE", "Claim", "Figure", "page", "read_claims"]

ROOT = Path(__file__).resolve().parent.parent
# letters of a parameter at most; the record has all
LONGEST = 40
CLAIMS, PAGE, EXAMPLES = (ROOT / "reports" / name for name in ("claims.toml", "claims.md", "examples"))

HEAD = """# Headlines of three papers, and what was compared

Written by `python tools/claims.py` from [claims.toml](claims.toml) and the records in [examples](examples); a test
holds it against them. A figure of ours stands here only with its record: same model, same prompts, one process, ops
held against the float64 reference. It is for its own hardware and model and says nothing about another. Beside it
stands the command that gives the figure on a GPU.
"""


class Figure(Table):
    """A number of a record.

    Args:
        what: it is, with the unit.
        where: fields of the record, and their values.
        config: dotted parameters of its method, and their values; "none" is none.
        field: of the record; with `_ci_low` and `_ci_high` beside it where it has an interval.
        over: the record whose field it is divided by: full: full attention of the same group; none.
        show: number, or percent of a share.
    """

    what: str
    where: dict[str, Any]
    config: dict[str, Any] = Field(default_factory=dict)
    field: str
    over: Literal["none", "full"] = "none"
    show: Literal["number", "percent"] = "number"


class Claim(Table):
    """A headline.

    Args:
        system: the paper's; headline: in our words, with the figure; source: where it stands.
        compared: what was held against what.
        figures: like for like.
        command: that measures it on a GPU.
    """

    system: str
    headline: str
    source: str
    compared: str
    figures: list[Figure] = Field(min_length=1)
    command: str


class Claims(Table):
    """The file."""

    claim: list[Claim]


def read_claims(path: Path = CLAIMS) -> list[Claim]:
    """The table of claims.

    Raises:
        ConfigError: a key is wrong.
    """
    return validate(Claims, tomllib.loads(path.read_text(encoding="utf-8")), path.name).claim


def page(claims: list[Claim], examples: Path = EXAMPLES) -> str:
    """The Markdown text."""
    runs = {folder.name: read_run(folder)[1] for folder in sorted(examples.iterdir()) if folder.is_dir()}
    parts = [HEAD]
    for system in dict.fromkeys(claim.system for claim in claims):
        parts.append(f"## {system}\n")
        parts += [_section(claim, runs) for claim in claims if claim.system == system]
    return "\n".join(parts)


def _section(claim: Claim, runs: dict[str, list[Record]]) -> str:
    lines = [f"### {claim.headline}\n", f"*Source*: {claim.source}.\n", f"*Compared*: {claim.compared}\n"]
    lines.append("*Like for like*:\n")
    lines += [f"- {figure.what}:{_measured(figure, runs)}" for figure in claim.figures]
    lines.append(f"- on a GPU: `{claim.command}`\n")
    return "\n".join(lines)


def _measured(figure: Figure, runs: dict[str, list[Record]]) -> str:
    """The value of every record that has it, of each run the longest contexts first."""
    found = [text for run, records in runs.items() for text in _of_run(figure, run, records)]
    if len(found) > 1:
        return "".join(f"\n  - {text}" for text in found)
    return f" {found[0]}" if found else " no record yet"


def _of_run(figure: Figure, run: str, records: list[Record]) -> list[str]:
    fitting = sorted(_fitting(figure, records), key=lambda r: -(r.context_tokens or 0))
    return [_text(figure, run, r, records) for r in fitting]


def _fitting(figure: Figure, records: list[Record]) -> Iterator[Record]:
    for record in records:
        config = record.method_config
        same = all(getattr(record, name) == value for name, value in figure.where.items())
        same = same and all(_at(config, name) == value for name, value in figure.config.items())
        if same and record.status == "ok" and _value(figure, record, records) is not None:
            yield record


def _at(config: Any, path: str) -> Any:
    """A parameter by its dotted name; TOML has no word for none."""
    for key in path.split("."):
        config = config.get(key) if isinstance(config, dict) else None
    return "none" if config is None else config


def _value(figure: Figure, record: Record, records: list[Record]) -> float | None:
    value = getattr(record, figure.field)
    if figure.over == "none" or value is None:
        return value
    full = next((r for r in records if r.is_full and r.group == record.group), None)
    base = full and getattr(full, figure.field)
    return value / base if base else None


def _text(figure: Figure, run: str, record: Record, records: list[Record]) -> str:
    ends = [getattr(record, f"{figure.field}_ci_{end}", None) for end in ("low", "high")]
    known = [_shown(figure, x) for x in ends if x is not None and figure.over == "none"]
    interval = f" [{', '.join(known)}]" if len(known) == len(ends) else ""
    value = _value(figure, record, records)
    if value is None:
        raise ConfigError(f"claims: {figure.field} of {record.cell}, got none; choose another record")
    machine = record.gpu or f"{record.arch}, {record.runtime}"
    tokens = "" if record.context_tokens is None else f", {record.context_tokens:,} tokens"
    return (
        f"**{_shown(figure, value)}**{interval} ({record.model} in {record.dtype}, {record.workload}{tokens}, "
        f"{machine}; {_method(record)}; record {record.cell} of [{run}](examples/{run}))"
    )


def _method(record: Record) -> str:
    """Method, backend and parameters, its budget among them; those that are none or nothing left out."""
    given = [(name, as_text(value)) for name, value in flat(record.method_config) if value not in (None, [], "")]
    said = [f"{name}={text if len(text) <= LONGEST else '…'}" for name, text in given]
    return " ".join([f"{record.method}/{record.backend}", *said])


def _shown(figure: Figure, value: float) -> str:
    return f"{value * 100:.2f} %" if figure.show == "percent" else f"{value:.2f}"


def main() -> None:
    PAGE.write_text(page(read_claims()), encoding="utf-8")


if __name__ == "__main__":
    main()
