"""Synthetic records of eviction methods side by side at two budgets."""

from typing import Any

from report.made_runs import FULL, record, stock

from pcbench.types import Record

MIB = 1 << 20
# method → scores of ten prompts and decode ms a token, at 256 and at 512 tokens
METHODS: dict[str, tuple[tuple[int, float], tuple[int, float]]] = {
    "snapkv": ((9, 20.0), (10, 22.0)),
    "h2o": ((8, 26.0), (9, 29.0)),
    "random_tokens": ((0, 19.8), (1, 21.9)),
}


def method_records(scores: dict[str, tuple[tuple[int, float], tuple[int, float]]] = METHODS) -> list[Record]:
    """Full attention of 90 MiB and 50 ms a token, and of every method a cell of 6 and one of 12 MiB."""
    where: dict[str, Any] = {"context_tokens": 4096, "run": "prefill_all", "key_chunk_kept": None, "chunks": None}
    records = [stock(**where, **_score(10), **_decode(50.0), kv_bytes=90 * MIB, ms_ci_low=37900.0, ms_ci_high=38600.0)]
    for method, found in scores.items():
        for i, (hits, ms) in enumerate(found):
            more = {"method": method, "method_config": {"tokens": 256 << i}, "kv_bytes": (6 << i) * MIB}
            more |= {"decode_speedup_vs_full": 50 / ms, "ms_p50": 38000.0, "ms_ci_low": 37900.0, "ms_ci_high": 38100.0}
            more |= {"decode_speedup_vs_full_ci_low": 49 / ms, "decode_speedup_vs_full_ci_high": 51 / ms}
            records.append(record(**where, **FULL, **more, **_score(hits), **_decode(ms)))
    return records


def _decode(ms: float) -> dict[str, Any]:
    ends = {"decode_ms_ci_low": ms - 0.1, "decode_ms_ci_high": ms + 0.1}
    return {"decode_ms_per_token": ms, "decode_samples_ms": [ms - 0.1, ms - 0.1, ms, ms + 0.1, ms + 0.1], **ends}


def _score(hits: int) -> dict[str, Any]:
    """Found of ten, with Wilson's interval of some numbers."""
    wilson = {0: (0.0, 0.2775), 1: (0.0179, 0.4042), 8: (0.4902, 0.9433), 9: (0.5958, 0.9821), 10: (0.7225, 1.0)}
    low, high = wilson[hits]
    return {"score": hits / 10, "score_ci_low": low, "score_ci_high": high, "n_samples": 10}
