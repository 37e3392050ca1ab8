"""Synthetic records of one GPU from which a method is to be chosen."""

from typing import Any

from report.made_runs import record, stock

from pcbench.statistics import wilson_interval
from pcbench.types import Record

GIB = 1 << 30
# 8 B parameters in two bytes: 15 GiB; keys and values of 1024 tokens: 128 MiB
SPEC: dict[str, Any] = {
    "name": "example-8b", "layers": 32, "kv_heads": 8, "head_dim": 128, "parameters": 15 * GIB // 2, "trained": True,
}  # fmt: skip
TOKEN = 2 * 32 * 8 * 128 * 2
GPU: dict[str, Any] = {
    "model": "example-8b", "dtype": "bfloat16", "device": "cuda", "backend": "cuda", "gpu": "Example GPU",
    "arch": "sm_90", "runtime": "CUDA 13.0", "context_tokens": 32768,
}  # fmt: skip
NOT_TIMED = dict.fromkeys(("ms_p10", "ms_p50", "ms_p90", "samples_ms", "repeats", "stages_ms", "decode_ms_per_token"))
NOT_SCORED = dict.fromkeys(("score", "score_name", "scorer", "score_ci_low", "score_ci_high", "n_samples"))


def peak(method: str, gib: float, **more: Any) -> Record:
    """A record of kind memory with a peak in three passes, all alike unless told."""
    size = int(gib * GIB)
    fields = {
        "kind": "memory",
        "suite": "memory",
        "task": "passkey@1",
        **NOT_TIMED,
        **NOT_SCORED,
        "key_chunk_kept": None,
    }
    fields |= {"peak_bytes": size, "peak_samples_bytes": [size] * 3, "reserved_bytes": size, **_of(method), **more}
    return _made(method, fields)


def scored(method: str, hits: int, prompts: int = 40, **more: Any) -> Record:
    """A record of kind accuracy: so many of the prompts were right."""
    low, high = wilson_interval(hits, prompts)
    fields = {"kind": "accuracy", "suite": "accuracy", "task": "passkey@1", **NOT_TIMED, "peak_bytes": None}
    fields |= {"score": hits / prompts, "score_ci_low": low, "score_ci_high": high, "n_samples": prompts}
    return _made(method, fields | _of(method) | more)


def _of(method: str) -> dict[str, Any]:
    tokens = GPU["context_tokens"] - 12
    if method == "full":
        return {"kv_bytes": tokens * TOKEN, "kv_bytes_predicted": tokens * TOKEN}
    return {"method": method, "method_config": {"tokens": 256}, "kv_bytes": 256 * TOKEN}


def _made(method: str, fields: dict[str, Any]) -> Record:
    if method != "full":
        return record(**(GPU | fields))
    fields = GPU | {"backend": "torch"} | fields
    return stock(**fields)
