"""Synthetic runs to hold against each other."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from report.made_runs import record, stock, write_run

from pcbench.records import RunFolder
from pcbench.types import Record, Sample

# ten repeats around 1, as a quiet machine gives them
QUIET = [1.0, 1.012, 0.991, 1.004, 0.987, 1.008, 0.996, 1.015, 0.993, 1.001]


def times(samples: Sequence[float]) -> dict[str, Any]:
    """The fields of a record that come from its samples."""
    middle = median(samples)
    return {"samples_ms": list(samples), "repeats": len(samples), "ms_p10": middle, "ms_p50": middle, "ms_p90": middle}


def pair(ours: Sequence[float], full: Sequence[float], **changes: Any) -> list[Record]:
    """full/torch and parallel_comp/cpu of one group."""
    speedup = {"baseline": "full/torch/sdpa-flash", "speedup_vs_full": median(full) / median(ours)}
    return [stock(**times(full), **changes), record(**(times(ours) | speedup | changes))]


def quiet_pair(factor: float = 1.0, repeats: int = 10, **changes: Any) -> list[Record]:
    """A pair whose method takes `factor` times as long as 100 ms, beside 150 ms of full."""
    return pair([100 * factor * x for x in QUIET[:repeats]], [150 * x for x in reversed(QUIET[:repeats])], **changes)


def write(folder: Path, records: Sequence[Record], samples: Sequence[Sample] = (), **manifest: Any) -> Path:
    """A run's folder with exactly these samples."""
    write_run(folder, records, **manifest)
    RunFolder(folder).samples.replace(samples)
    return folder


def answered(one: Record, scores: Sequence[float], text: str = "a") -> list[Sample]:
    """Samples of a record; prompts of equal `text` are equal."""
    return [
        Sample(
            cell=one.cell, task="passkey@1", id=f"{i}", prediction="", answers=[], score=score, scorer="needle@1",
            prompt_sha256=f"{text}{i}".encode().hex().ljust(64, "0"),
        )
        for i, score in enumerate(scores)
    ]  # fmt: skip
