"""Lanes of a group of kernels → records: percentiles, rates, shares of the ceiling, ratios."""

import math
import sys
from typing import Any

import torch

from pcbench.harness.kinds.kernel.group import KernelLane
from pcbench.harness.kinds.times import add_samples
from pcbench.measure.kernels.baselines import is_floor
from pcbench.measure.machine.ceilings import Ceilings
from pcbench.measure.machine.telemetry import summary
from pcbench.measure.parity import worst
from pcbench.statistics import percentile, ratio_interval
from pcbench.types import Record

__all__ = ["summarise_kernels"]

GIB = 1 << 30


def summarise_kernels(
    lanes: list[KernelLane], ceilings: Ceilings | None, shared: dict[str, Any], repro: str
) -> list[Record]:
    """One record a lane.

    Args:
        lanes: of one group, finished.
        ceilings: of this run; None where nothing could be measured.
        shared: fields all records of the run carry: run, gpu, arch, torch, commit, …
        repro: the command that measures this group again.
    """
    return [_record(lane, lanes, ceilings, shared, repro) for lane in lanes]


def _record(
    lane: KernelLane, lanes: list[KernelLane], ceilings: Ceilings | None, shared: dict[str, Any], repro: str
) -> Record:
    cell = lane.prepared.cell
    record = Record.of(
        cell,
        op=lane.prepared.op,
        shape=str(lane.prepared.shape),
        status=lane.status,
        reason=lane.reason,
        warnings=[*lane.warnings],
        telemetry_summary=summary(lane.readings),
        repro_command=repro,
        **shared,
    )
    if lane.parity:
        last = worst(lane.parity)
        # JSON has no infinity
        record.parity_err = last.err if math.isfinite(last.err) else sys.float_info.max
        record.parity_bound = last.bound
        record.parity_ops = {lane.prepared.op: {"err": record.parity_err, "bound": last.bound}}
    if lane.status == "ok" and lane.samples_ms:
        _add_times(record, lane, ceilings)
        _add_ratios(record, lane, lanes)
    return record


def _add_times(record: Record, lane: KernelLane, ceilings: Ceilings | None) -> None:
    seconds = add_samples(record, lane.samples_ms) / 1e3
    record.peak_bytes = lane.peak_bytes
    work = lane.prepared.shape.work(getattr(torch, lane.prepared.cell.dtype).itemsize)
    if work.limit == "flops":
        record.tflops = work.flops / seconds / 1e12
    else:
        record.gib_per_s = work.bytes / seconds / GIB
    if ceilings is not None:
        most = ceilings.flops_per_s if work.limit == "flops" else ceilings.bytes_per_s
        record.ceiling_ratio = (work.flops if work.limit == "flops" else work.bytes) / seconds / most


def _add_ratios(record: Record, lane: KernelLane, lanes: list[KernelLane]) -> None:
    """Only for lanes whose parity passed, and between lanes that were timed alike: a graph's replay has no launches."""
    if lane.is_baseline or is_floor(lane.prepared.cell.method):
        return
    timed = [x for x in lanes if x.status == "ok" and len(x.samples_ms) == len(lane.samples_ms)]
    others = [x for x in timed if x.timed_by == lane.timed_by]
    record.warnings += [f"no ratio to {_name(x)}, timed by {x.timed_by}" for x in timed if x not in others]
    stock = [x for x in others if x.is_baseline and not is_floor(x.prepared.cell.method)]
    if stock:
        fastest = min(stock, key=lambda x: percentile(x.samples_ms, 50))
        record.baseline = _name(fastest)
        ratio = ratio_interval(fastest.samples_ms, lane.samples_ms)
        record.speedup_vs_baseline, record.speedup_vs_baseline_ci_low, record.speedup_vs_baseline_ci_high = ratio
    same = [x for x in others if x.prepared.cell.backend == "reference"]
    if same and lane.prepared.cell.backend != "reference":
        ratio = ratio_interval(same[0].samples_ms, lane.samples_ms)
        record.speedup_vs_reference, record.speedup_vs_reference_ci_low, record.speedup_vs_reference_ci_high = ratio


def _name(lane: KernelLane) -> str:
    return f"{lane.prepared.cell.method}/{lane.prepared.cell.backend}"
