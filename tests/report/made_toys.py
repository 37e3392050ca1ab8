"""Synthetic records of a kind that pcbench does not ship: sums of so many numbers."""

from typing import Any

from report.made_runs import RESULTS, record

from pcbench.types import Record


def toy(method: str, backend: str, numbers: int, p50: float | None, **changes: Any) -> Record:
    """A sum of `numbers` numbers, five times around `p50` milliseconds."""
    fields: dict[str, Any] = dict.fromkeys(RESULTS) | {
        "suite": "toys", "kind": "toy", "run": "toys_cpu", "model": "", "method": method, "method_config": {},
        "backend": backend, "workload": f"sum of {numbers}", "task": None, "context_tokens": None,
        "repro_command": f"pcbench run --suite toys --method {method}",
    }  # fmt: skip
    if p50 is not None:
        fields |= {"ms_p10": p50 * 0.97, "ms_p50": p50, "ms_p90": p50 * 1.04, "repeats": 5}
        fields |= {"samples_ms": [p50 * (1 + i / 100) for i in range(-2, 3)]}
        fields |= {"ms_ci_low": p50 * 0.98, "ms_ci_high": p50 * 1.02}
        if backend != "torch":
            fields |= {"parity_err": 0.5, "parity_bound": 2.0}
    return record(**(fields | changes))


def toy_records() -> list[Record]:
    """Two sizes by stock code and by a compiled one with a speed-up; two cells that ended otherwise."""
    records = []
    for numbers, p50 in ((1000, 2.0), (2000, 3.9)):
        ratio = {"speedup_vs_baseline": 1.9, "speedup_vs_full": 1.9, "speedup_vs_reference": 1.9, "fit_ratio": 2.0}
        records += [toy("full", "torch", numbers, p50), toy("fast", "cpu", numbers, p50 / 1.9, **ratio)]
    return [
        *records,
        toy("slow", "cpu", 2000, None, status="timeout", reason="toys: 10 s are over"),
        toy("wrong", "cpu", 2000, 1.0, parity_err=3.0),
    ]
