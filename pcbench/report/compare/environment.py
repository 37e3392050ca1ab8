"""What differs between the machines, builds and settings of runs."""

from collections.abc import Iterator, Sequence
from statistics import median

from pcbench.report.compare.runs import ComparedRun
from pcbench.report.page.manifests import facts
from pcbench.report.wording import number

__all__ = ["environment_changes"]

# parts of a manifest that say how its numbers came to be
PARTS = ("environment", "builds", "settings", "model")


def environment_changes(runs: Sequence[ComparedRun]) -> dict[str, list[str]]:
    """Key → its value in each run, for keys that are not the same in all; "–" where a run lacks one.

    Keys are paths into the manifest (`torch`, `threads`, `commit`, `packages.numpy`, `settings.repeats`); those of
    telemetry (`clock_mhz`, …) are medians over the records.
    """
    known = [dict(_facts(run)) for run in runs]
    keys = dict.fromkeys(key for found in known for key in found)
    values = {key: [found.get(key, "–") for found in known] for key in keys}
    return {key: row for key, row in values.items() if len(set(row)) > 1}


def _facts(run: ComparedRun) -> Iterator[tuple[str, str]]:
    for part in PARTS:
        yield from facts("" if part == "environment" else part, run.manifest.get(part, {}))
    yield "command", str(run.manifest.get("command", "–"))
    yield from _telemetry(run)


def _telemetry(run: ComparedRun) -> Iterator[tuple[str, str]]:
    summaries = [record.telemetry_summary for record in run.records.values() if record.telemetry_summary]
    for key in dict.fromkeys(key for summary in summaries for key in summary):
        values = [summary[key] for summary in summaries if key in summary]
        numbers = [value for value in values if isinstance(value, int | float)]
        if numbers:
            yield f"telemetry.{key}", number(float(median(numbers)))
        else:
            yield f"telemetry.{key}", ", ".join(dict.fromkeys(map(str, values)))
