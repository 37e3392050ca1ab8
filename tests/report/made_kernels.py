"""Synthetic records of kernels."""

from typing import Any

from report.made_runs import record

from pcbench.types import Record

SHAPES = ("B1 H8 Hkv2 Q512 S512 D64 causal", "B1 H8 Hkv2 Q1024 S1024 D64 causal")


def kernel(method: str, backend: str, shape: str, p50: float, **changes: Any) -> Record:
    """One op or baseline of calibrated_attention at a shape; ten rounds around `p50` milliseconds."""
    op = "calibrated_attention"
    samples = [p50 * (1 + i / 100) for i in range(-4, 6)]
    checked = backend != "torch"
    fields: dict[str, Any] = {
        "suite": "kernels", "kind": "kernel", "run": "kernels_cpu", "model": "", "method": method, "method_config": {},
        "backend": backend, "workload": f"{op} {shape}", "task": None, "context_tokens": None, "op": op, "shape": shape,
        "parity_err": 2e-7 if checked else None, "parity_bound": 1e-6 if checked else None,
        "parity_ops": {op: {"err": 2e-7, "bound": 1e-6}} if checked else None,
        "repro_command": f"pcbench run --suite kernels --method {op}",
    }  # fmt: skip
    if changes.get("status", "ok") == "ok":
        fields |= {
            "ms_p10": p50 * 0.97, "ms_p50": p50, "ms_p90": p50 * 1.04, "repeats": 10, "samples_ms": samples,
            "tflops": 1.5 / p50, "ceiling_ratio": 0.6 / p50,
        }  # fmt: skip
        absent = ("chunks", "chunks_kept", "kept_tokens", "stages_ms", "prefill_tokens_per_s", "chunks_per_s")
        absent += ("decode_ms_per_token", "peak_bytes", "kv_bytes", "kv_bytes_predicted", "score", "score_name")
        absent += ("scorer", "n_samples", "score_ci_low", "score_ci_high", "key_chunk_kept")
        fields |= dict.fromkeys(absent)
    return record(**(fields | changes))


def kernel_records() -> list[Record]:
    """Two shapes: op, reference, a faster and a slower baseline, a floor and one that cannot run."""
    records = []
    for shape, p50 in zip(SHAPES, (1.0, 4.0), strict=True):
        names = ("speedup_vs_baseline", "speedup_vs_baseline_ci_low", "speedup_vs_baseline_ci_high")
        ratio = dict(zip(names, (1.25, 1.2, 1.3), strict=True)) if p50 == 1.0 else dict.fromkeys(names, 0.8)
        records += [
            kernel("calibrated_attention", "cpu", shape, p50, baseline="sdpa-flash/torch", **ratio),
            kernel("calibrated_attention", "reference", shape, p50 * 5),
            kernel("sdpa-flash", "torch", shape, p50 * ratio["speedup_vs_baseline"]),
            kernel("sdpa-math", "torch", shape, p50 * 8),
            kernel("floor-gemm", "torch", shape, p50 / 2),
            kernel("sdpa-cudnn", "torch", shape, 0, status="unsupported", reason="sdpa-cudnn: no kernel"),
        ]
    return records
