"""The generated parts of README.md and docs/: lists of what there is, results of committed runs, and the chart.

python tools/documentation.py    writes them anew
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from chart import FILES, chart

from pcbench import registry
from pcbench.methods.parallel_comp.switches import switch_rows
from pcbench.records import read_records
from pcbench.suites import suite_summaries

__all__ = ["PAGES", "ROOT", "rendered"]

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

PART = re.compile(r"(<!-- (table|results): (\w+) -->\n)(.*?)(<!-- end -->)", re.S)
HEAD = (
    "| tokens | cell | prefill s | times as fast as `full` | peak MiB | KV MiB | answered |\n"
    "|---|---|---|---|---|---|---|\n"
)


def rendered(text: str) -> str:
    """A page with its generated parts as they should be."""
    return PART.sub(lambda found: f"{found[1]}\n{_part(found[2], found[3])}\n{found[5]}", text)


def _part(kind: str, name: str) -> str:
    return _table(name) if kind == "table" else HEAD + "".join(_results(name))


def _table(name: str) -> str:
    """What `pcbench list` prints, of pcbench's own; the options of ParallelComp's released runner as `switches`."""
    tables = {
        "suites": lambda: _own(suite_summaries(), [path.stem for path in (ROOT / "suites").glob("*.toml")]),
        "methods": lambda: _own(registry.summaries(registry.METHODS), registry.OWN_METHODS),
        "models": lambda: {name: table["summary"] for name, table in registry.model_tables().own.items()},
        "ops": registry.op_summaries,
        "scorers": lambda: _own(registry.scorer_summaries(), registry.OWN_SCORERS),
        "switches": switch_rows,
    }
    head = "option of the released runner" if name == "switches" else name[:-1]
    rows = (f"| `{entry}` | {summary} |\n" for entry, summary in tables[name]().items())
    return f"| {head} | |\n|---|---|\n{''.join(rows)}"


def _own(entries: Mapping[str, str], names: "list[str] | Mapping[str, object]") -> dict[str, str]:
    """Those of pcbench, whatever packages are installed beside it."""
    return {name: line for name, line in entries.items() if name in names}


def _results(folder: str) -> Iterator[str]:
    """The timed cells of an example run."""
    for r in read_records(ROOT / "reports" / "examples" / folder):
        if r.ms_p50 is None:
            continue
        speedup = "–"
        if r.speedup_vs_full is not None:
            low, high = r.speedup_vs_full_ci_low, r.speedup_vs_full_ci_high
            speedup = f"{r.speedup_vs_full:.2f} [{low:.2f}, {high:.2f}]"
        cells = (
            f"{r.context_tokens:,}",
            f"`{r.method}/{r.backend}`",
            f"{r.ms_p50 / 1000:.2f}",
            speedup,
            f"{r.peak_bytes / 2**20:.0f}",
            f"{r.kv_bytes / 2**20:.0f}",
            f"{round(r.score * r.n_samples)}/{r.n_samples}",
        )
        yield f"| {' | '.join(cells)} |\n"


def main() -> None:
    for page in PAGES:
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
    for theme, file in FILES.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(chart(theme), encoding="utf-8")


if __name__ == "__main__":
    main()
