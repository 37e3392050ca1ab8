"""The card of a data set: what was measured, its tables, its files."""

import json
from collections.abc import Sequence
from typing import Any

from pcbench.report.compare.text import Table, escaped, markdown
from pcbench.report.leaderboard import HOW, tables
from pcbench.report.reading.results import Results
from pcbench.report.reading.runs import Run
from pcbench.report.verdict.headline import verdicts
from pcbench.types import Sample

__all__ = ["card"]

TAGS = ("pcbench", "benchmark", "long-context", "kv-cache")
CONTENT = {
    "records.jsonl": "one line for each cell: model × method × backend × workload × length",
    "samples.jsonl": "one line for each prompt: answer, score, kept chunks",
    "manifest.json": "what was measured, on which machine, by which command",
    "schema/": "the formats of these files as JSON Schema",
}
READ = """`pcbench report FOLDER` makes the report with all figures from a downloaded copy; `pcbench compare` and
`pcbench leaderboard` take it beside runs of your own."""
WHOSE = (
    """Answers that samples hold under `answers` are those of the data sets that were asked; their licences apply."""
)


def card(run: Run, samples: Sequence[Sample]) -> str:
    """README.md of a data set in the form that the Hugging Face Hub reads: YAML, then Markdown; every text is escaped.

    Args:
        run: with a record at least.
        samples: of its prompts.
    """
    results = Results([run])
    suite, model = str(run.manifest.get("suite", "")), _model(run)
    title = f"pcbench {suite} of {model}" if model else f"pcbench {suite}"
    (verdict,) = verdicts(results)
    facts = Table("", ["", ""], [[name, text] for name, text in _facts(run).items() if text])
    numbers = [Table(found.caption, [name for name, _ in found.titles], found.rows) for found in tables(results)]
    files = [f"| `{name}` | {said} |" for name, said in CONTENT.items()]
    parts = [
        _front(title, bool(samples)),
        f"# {escaped(title)}",
        escaped(verdict.sentence),
        _plain(facts),
        "## Results",
        escaped(HOW),
        markdown("", numbers).partition("\n")[2].strip(),
        "## Files",
        "\n".join(["| file | content |", "|---|---|", *files]),
        READ,
        *([WHOSE] if samples else []),
    ]
    return "\n\n".join(parts) + "\n"


def _front(title: str, asked: bool) -> str:
    """What the hub reads. Texts as JSON, which is YAML."""
    lines = ["---", f"pretty_name: {json.dumps(title)}", "tags:", *(f"- {tag}" for tag in TAGS), "configs:"]
    for name in ("records", "samples") if asked else ("records",):
        lines += [f"- config_name: {name}", f"  data_files: {name}.jsonl"]
    return "\n".join([*lines, "---"])


def _facts(run: Run) -> dict[str, str]:
    environment: dict[str, Any] = run.manifest.get("environment", {})
    return {
        "suite": str(run.manifest.get("suite", "")),
        "model": _model(run),
        "machine": ", ".join(
            str(environment[key]) for key in ("gpu", "cpu", "arch", "runtime") if environment.get(key)
        ),
        "PyTorch": str(environment.get("torch") or ""),
        "pcbench": ", ".join(filter(None, [environment.get("packages", {}).get("pcbench"), run.commit])),
        "measured": run.day,
        "command": str(run.manifest.get("command", "")),
    }


def _model(run: Run) -> str:
    return str((run.manifest.get("model") or {}).get("name", ""))


def _plain(table: Table) -> str:
    rows = [f"| {' | '.join(map(escaped, row))} |" for row in table.rows]
    return "\n".join(["| | |", "|---|---|", *rows])
