"""Synthetic records of a suite of perplexity."""

import math
from typing import Any

from report.made_accuracy import UNTIMED
from report.made_runs import record, stock

from pcbench.types import Record

LOSSES: dict[str, Any] = {
    **UNTIMED, "run": "perplexity_cpu", "suite": "perplexity", "kind": "perplexity", "n_samples": 8,
    "workload": "documentation, last 256", "task": "documentation@0123abcd/64+256 every 256", "scored_tokens": 256,
    **dict.fromkeys(("score", "score_name", "scorer", "score_ci_low", "score_ci_high")),
}  # fmt: skip


def loss(nll: float, half: float = 0.1) -> dict[str, Any]:
    """A loss with the half width of its interval."""
    return {"nll": nll, "nll_ci_low": nll - half, "nll_ci_high": nll + half, "perplexity": math.exp(nll)}


def loss_vs_full(value: float, half: float, pairs: int = 8) -> dict[str, Any]:
    """A difference to full attention with the half width of its interval."""
    ends = {"nll_vs_full_ci_low": value - half, "nll_vs_full_ci_high": value + half}
    return {"nll_vs_full": value, "nll_vs_full_pairs": pairs, **ends}


def loss_records() -> list[Record]:
    """Full attention and two methods at two lengths: one loses more, one cannot be told; and a method left out."""
    records = []
    for tokens, full in ((2048, 2.9), (8192, 2.7)):
        where = LOSSES | {"context_tokens": tokens}
        curve = [4.0 - i / 16 for i in range(32)]
        records.append(stock(**where, **loss(full), nll_by_position=curve))
        records.append(record(**where, **loss(full + 0.31), **loss_vs_full(0.31, 0.05)))
        snap = {"method": "snapkv", "method_config": {"tokens": 1024}}
        records.append(record(**where, **loss(full + 0.01), **loss_vs_full(0.01, 0.02), **snap))
        records.append(record(**where, method="other", status="unsupported", reason="other: got one without `read`"))
    return records
