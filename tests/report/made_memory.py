"""Synthetic records of the throughput and memory suites."""

from typing import Any

from report.made_runs import record, stock

from pcbench.types import Record

MIB = 1 << 20


def throughput_records() -> list[Record]:
    """Chunks a second at three micro-batches, compiled and reference, and full attention."""
    where: dict[str, Any] = {
        "suite": "throughput",
        "kind": "throughput",
        "run": "throughput_cpu",
        "context_tokens": 8192,
    }
    records = [stock(**where)]
    for batch in (1, 2, 4):
        for backend, rate in (("cpu", 0.2 + 0.02 * batch), ("reference", 0.1)):
            config = {"chunk_tokens": 2048, "keep": 1, "micro_batch": batch}
            p50 = 4e3 / rate
            times = {"ms_p10": p50 * 0.98, "ms_p50": p50, "ms_p90": p50 * 1.05, "chunks_per_s": rate}
            records.append(record(**where, backend=backend, method_config=config, **times))
    return records


def memory_records() -> list[Record]:
    """Full attention, and parallel_comp with and without token eviction in a budget."""
    where: dict[str, Any] = {"suite": "memory", "kind": "memory", "run": "memory_cpu", "budget_bytes": 512 * MIB}
    phases = {"chunks": 400 * MIB, "selection": 120 * MIB, "query": 210 * MIB}
    records = []
    for tokens in (2048, 8192):
        here = where | {"context_tokens": tokens}
        records.append(stock(**here, longest_context_tokens=11915, phase_bytes={"forward": 900 * MIB}))
        for evict, chunks, longest in ((None, 6, 14336), ({"capacity": 1024}, 11, 24576)):
            config = {"chunk_tokens": 2048, "keep": 1, "evict": evict}
            fits = {"chunks_that_fit": chunks, "longest_context_tokens": longest}
            fits |= {"fit_ratio": chunks / 6 if evict else None}
            records.append(record(**here, method_config=config, phase_bytes=phases, **fits))
    return records
