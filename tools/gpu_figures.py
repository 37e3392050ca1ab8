"""The figures of a run that reports/GPU_PENDING.md asks for, one line each: measured, wanted, whether it is met.

`gpu_figures.py RUN_DIR` reads a run of the suite `kernels` or `prefill`. A line without its records says so.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pcbench.records import read_records
from pcbench.registry import METHODS, load
from pcbench.types import ModelSpec, Record

Lanes = dict[str, Record]


@dataclass(frozen=True)
class Line:
    """What an op must show at its shapes.

    Args:
        op: of the records.
        shapes: pattern of their `shape`.
        says: what the figure is.
        figure: from the lanes of one shape that are ok, by method; None where one of them has no time of the device.
        limit: of the figure; a most where `at_most`, else a least.
    """

    op: str
    shapes: str
    says: str
    figure: Callable[[Lanes], float | None]
    limit: float
    at_most: bool = False

    def text(self, shape: str, lanes: Lanes) -> str:
        own = lanes[self.op]
        if own.status != "ok":
            return f"no figure: {self.op} {shape}: {own.status}: {own.reason}"
        found = self.figure({name: lane for name, lane in lanes.items() if lane.status == "ok"})
        if found is None:
            return f"no figure: {self.op} {shape}: {self.says}"
        met = found <= self.limit if self.at_most else found >= self.limit
        wanted = f"{'<=' if self.at_most else '>='} {self.limit:g}"
        return f"{'met' if met else 'NOT MET'}: {self.op} {shape}: {self.says} {found:.3f}, wanted {wanted}"


def on_device(lane: Record) -> bool:
    """Whether its times are the device's alone; those of a call that waits have its launches in them."""
    return not any(w.startswith("timed with its launches") for w in lane.warnings)


def ratio(slow: str, quick: str) -> Callable[[Lanes], float | None]:
    """The time of `slow` over that of `quick`."""

    def figure(lanes: Lanes) -> float | None:
        sides = [lanes[name].ms_p50 for name in (slow, quick) if name in lanes and on_device(lanes[name])]
        above, below = sides if len(sides) == 2 else (None, None)
        return above / below if above and below else None

    return figure


def ceiling(lanes: Lanes) -> float | None:
    lane = lanes["cached_attention"]
    return lane.ceiling_ratio if on_device(lane) else None


def logits_share(lanes: Lanes) -> float | None:
    """Bytes that chunk_select allocates, over those of bfloat16 logits."""
    ours = lanes["chunk_select"]
    rows, vocab = (int(n) for n in re.findall(r"[XV](\d+)", ours.shape or ""))
    return ours.peak_bytes / (rows * vocab * 2) if ours.peak_bytes is not None else None


ATTENTION, SELECT, CHUNKS = "calibrated_attention", "select_tokens", "chunk_select"
LINES = [
    Line(
        ATTENTION,
        r"B1 H32 Hkv8 Q(4096|8192|16384) S\1 D(64|128) causal",
        "SDPA-flash over it",
        ratio("sdpa-flash", ATTENTION),
        1.0,
    ),
    Line(
        ATTENTION,
        r"B32 H32 Hkv8 Q4096 S4096 D128 causal r(8|64)",
        "with mass over without",
        ratio(ATTENTION, "floor-no-mass"),
        1.02,
        at_most=True,
    ),
    Line(
        SELECT,
        r"B32 H\d+ Hkv8 S4096 D128 keep512 pool7",
        "torch over it",
        ratio("torch-topk", SELECT),
        10.0,
    ),
    Line(
        SELECT,
        r"B32 H\d+ Hkv8 S4096 D128 keep512 pool7",
        "it over the copy floor",
        ratio(SELECT, "floor-copy"),
        1.5,
        at_most=True,
    ),
    Line("cached_attention", r"B(1 .* P[28]|16 .* P1) S4096 D128", "share of the copy bandwidth", ceiling, 0.85),
    Line(CHUNKS, r"X1080 E4096 V128256 .*", "it over the bare GEMM", ratio(CHUNKS, "floor-gemm"), 1.2, at_most=True),
    Line(CHUNKS, r"X1080 E4096 V128256 .*", "bytes over those of bf16 logits", logits_share, 1 / 20, at_most=True),
]


def kernel_lines(records: list[Record]) -> Iterator[str]:
    """The op's own compiled lane and its baselines, by shape."""
    groups: dict[tuple[str, str], Lanes] = {}
    for record in records:
        if record.backend != "reference":
            groups.setdefault((record.op or "", record.shape or ""), {})[record.method] = record
    for line in LINES:
        shapes = [s for op, s in groups if op == line.op and re.fullmatch(line.shapes, s)]
        with_op = [s for s in shapes if line.op in groups[line.op, s]]
        yield from (line.text(shape, groups[line.op, shape]) for shape in with_op)
        if not with_op:
            yield f"no figure: {line.op}: {line.says}: no record of this shape"


def prefill_lines(records: list[Record], spec: ModelSpec) -> Iterator[str]:
    """Timed cells: status, parity, time, speed-up, stages, and how much less there is to compute than for `full`."""
    for record in records:
        if record.workload is None or (record.ms_p50 is None and record.status == "ok"):
            continue
        bound = flops(spec, "full", {}, record.context_tokens or 0) / flops(
            spec, record.method, record.method_config, record.context_tokens or 0
        )
        parts = [f"{record.status}: {record.method}/{record.backend} {record.context_tokens} tokens {record.workload}"]
        parts += [f"parity {record.parity_err:.1e} of {record.parity_bound:.1e}"] if record.parity_bound else []
        parts += [f"{record.ms_p50:.0f} ms"] if record.ms_p50 else []
        parts += [f"{record.speedup_vs_full:.2f}x full"] if record.speedup_vs_full else []
        parts += [f"FLOP bound {bound:.2f}x"]
        parts += [f"{stage} {ms:.0f} ms" for stage, ms in (record.stages_ms or {}).items()]
        yield ", ".join(parts) + (f": {record.reason}" if record.reason else "")


def flops(spec: ModelSpec, method: str, config: dict[str, object], tokens: int) -> float:
    """Of one prefill of `tokens` tokens."""
    return load(METHODS, "method", method, "gpu_figures").Config.model_validate(config).cost(spec, tokens).flops


def _spec(model: dict[str, Any]) -> ModelSpec:
    """Of a manifest, whose build may have known other fields."""
    known = {field.name for field in fields(ModelSpec)}
    return ModelSpec(**{name: value for name, value in model.items() if name in known})


def main() -> None:
    folder = Path(sys.argv[1])
    records = read_records(folder)
    if {record.kind for record in records} == {"kernel"}:
        lines = kernel_lines(records)
    else:
        model = json.loads((folder / "manifest.json").read_text())["model"]
        lines = prefill_lines(records, _spec(model))
    for line in lines:
        print(line)


if __name__ == "__main__":
    main()
