"""Runs → one HTML file that opens from disk with the network off."""

from collections.abc import Sequence
from pathlib import Path

from jinja2.utils import htmlsafe_json_dumps

from pcbench.plain_files import write_for
from pcbench.report.page.templates import filled_in
from pcbench.report.reading.results import Results
from pcbench.report.reading.runs import DATA_ID, Run, embeddable, read_runs
from pcbench.report.sections import sections
from pcbench.report.verdict.headline import verdicts
from pcbench.report.verdict.trust import trust

__all__ = ["build", "render"]


def build(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Writes the report of one or more runs.

    Args:
        folders: run folders; a report written earlier stands for the runs in it.
        out: the file; None is `report.html` in the first folder, or the first report itself.

    Returns:
        The path of the file.

    Raises:
        DataMissing: a folder without a manifest, or a file that is no report.
        ConfigError: records that pcbench did not write, or a file that cannot be written.
        DiskFull: there is no room for it.
    """
    runs = read_runs(folders)
    if out is None:
        out = folders[0] if folders[0].is_file() else folders[0] / "report.html"
    write_for("--out", out, render(runs))
    return out


def render(runs: list[Run]) -> str:
    """The page; equal runs give equal text."""
    results = Results(runs)
    return filled_in(
        "report.html.j2",
        title=" · ".join(dict.fromkeys(run.title for run in runs)),
        verdicts=verdicts(results),
        trust=trust(results),
        sections=sections(results),
        data_id=DATA_ID,
        data=htmlsafe_json_dumps(embeddable(runs), ensure_ascii=False, separators=(",", ":"), allow_nan=False),
    )
