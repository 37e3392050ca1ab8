"""Synthetic records and samples of an accuracy suite."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from report.made_runs import record, stock, write_run

from pcbench.records import RunFolder
from pcbench.types import Record, Sample

DATASETS = ("multi_news", "qasper", "trec")
UNTIMED = dict.fromkeys(
    ("ms_p10", "ms_p50", "ms_p90", "repeats", "samples_ms", "stages_ms", "prefill_tokens_per_s", "chunks_per_s",
     "decode_ms_per_token", "peak_bytes", "key_chunk_kept")
)  # fmt: skip
ACCURACY: dict[str, Any] = {
    **UNTIMED, "run": "longbench_cpu", "suite": "longbench", "kind": "accuracy", "context_tokens": 7500,
    "score_name": "rouge-l F1", "scorer": "longbench@1+indel", "n_samples": 200, "prompts": "official",
}  # fmt: skip


def vs_full(value: float, half: float, p: float | None = None) -> dict[str, Any]:
    """A paired difference to full attention with the half width of its interval."""
    return {
        "score_vs_full": value, "score_vs_full_ci_low": value - half, "score_vs_full_ci_high": value + half,
        "score_vs_full_p": p,
    }  # fmt: skip


def accuracy_records() -> list[Record]:
    """Three datasets by full attention and two budgets, and the average of each."""
    changes = {1: (-0.031, 0.012, 0.003), 4: (-0.002, 0.01, 0.7)}
    records = []
    for i, name in enumerate(DATASETS):
        where = ACCURACY | {"workload": name, "task": f"longbench/{name}@1"}
        score = 0.3 + 0.1 * i
        interval = {"score_ci_low": score - 0.04, "score_ci_high": score + 0.04}
        records.append(stock(**where, score=score, **interval))
        for keep, (value, half, p) in changes.items():
            own = where | {"method_config": {"chunk_tokens": 2048, "keep": keep}, "kv_bytes": (90 << 20) * keep}
            records.append(record(**own, score=score + value, **interval, **vs_full(value, half, p)))
    absent = ("parity_ops", "parity_err", "parity_bound", "kv_bytes", "kv_bytes_predicted", "chunks", "chunks_kept")
    where = ACCURACY | dict.fromkeys((*absent, "kept_tokens")) | {
        "workload": "average", "task": f"average of {', '.join(f'longbench/{name}' for name in DATASETS)}",
        "score_name": "mean of 3 datasets", "n_samples": 600, "score_ci_low": 0.37, "score_ci_high": 0.43,
    }  # fmt: skip
    records.append(stock(**where, score=0.4))
    for keep, (value, half, _) in changes.items():
        config = {"method_config": {"chunk_tokens": 2048, "keep": keep}}
        records.append(record(**where, **config, score=0.4 + value, **vs_full(value, half / 2)))
    return records


def needle_samples(one: Record, prompts: int = 10) -> list[Sample]:
    """Needles at growing depths; with chunks, those in the first half are not kept and not found."""
    chunks = one.chunks
    made = []
    for i in range(prompts):
        depth = (i + 0.5) / prompts
        found = chunks is None or depth >= 0.5
        made.append(
            Sample(
                cell=one.cell, task=one.task or "", id=f"passkey@1/{one.context_tokens}/0/{i}",
                prediction=f" {12345 + i}." if found else " 99999.", answers=[f"{12345 + i}"], score=float(found),
                scorer=one.scorer, prompt_sha256=f"{i:064x}", key_depth=depth, tokens=one.context_tokens, chunks=chunks,
                key_chunk=None if chunks is None else int(depth * chunks),
                kept_chunks=None if chunks is None else list(range(chunks // 2, chunks)),
            )
        )  # fmt: skip
    return made


def write_with_samples(folder: Path, records: Sequence[Record], samples: Sequence[Sample], **manifest: Any) -> Path:
    """A run's folder with these samples and no others."""
    write_run(folder, records, **manifest)
    RunFolder(folder).samples.replace(samples)
    return folder
