"""The figures of a run that reports/GPU_PENDING.md asks for, one line each: measured, wanted, whether it is met.

`gpu_figures.py RUN_DIR [OP...]` reads a run of the suite `kernels`, of these ops or of all, or of `prefill`. A line
without its records says so; one without a bar says what was measured.
"""

import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
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
        limit: of the figure; a most where `at_most`, else a least; None where nothing is promised.
    """

    op: str
    shapes: str
    says: str
    figure: Callable[[Lanes], float | None]
    limit: float | None = None
    at_most: bool = False

    def text(self, shape: str, lanes: Lanes) -> str:
        own = lanes[self.op]
        if own.status != "ok":
            return f"no figure: {self.op} {shape}: {own.status}: {own.reason}"
        found = self.figure({name: lane for name, lane in lanes.items() if lane.status == "ok"})
        if found is None:
            return f"no figure: {self.op} {shape}: {self.says}"
        return verdict(f"{self.op} {shape}: {self.says}", found, self.limit, at_most=self.at_most)


def verdict(says: str, found: float, limit: float | None, *, at_most: bool = False) -> str:
    """A figure beside what is wanted of it."""
    if limit is None:
        return f"no bar: {says} {found:.3f}"
    met = found <= limit if at_most else found >= limit
    return f"{'met' if met else 'NOT MET'}: {says} {found:.3f}, wanted {'<=' if at_most else '>='} {limit:g}"


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


def fastest_stock(op: str) -> Callable[[Lanes], float | None]:
    """The time of the fastest stock code that computes the same over that of `op`."""

    def figure(lanes: Lanes) -> float | None:
        stock = [n for n, lane in lanes.items() if lane.backend == "torch" and not n.startswith(("floor-", BY))]
        found = [x for name in stock if (x := ratio(name, op)(lanes)) is not None]
        return min(found, default=None)

    return figure


# lanes of an op whose attention is a library's
BY = "by-"


def chunks_over_stock(lanes: Lanes) -> float | None:
    """The time of the fastest stock code over that of the kernel that chunks run by: our own or a library's."""
    ways = [name for name in lanes if name == ATTENTION or name.startswith(BY)]
    return max((x for name in ways if (x := fastest_stock(name)(lanes)) is not None), default=None)


def ceiling(lanes: Lanes) -> float | None:
    lane = lanes["cached_attention"]
    return lane.ceiling_ratio if on_device(lane) else None


def logits_share(lanes: Lanes) -> float | None:
    """Bytes that chunk_select allocates, over those of bfloat16 logits."""
    ours = lanes["chunk_select"]
    rows, vocab = (int(n) for n in re.findall(r"[XV](\d+)", ours.shape or ""))
    return ours.peak_bytes / (rows * vocab * 2) if ours.peak_bytes is not None else None


ATTENTION, CACHED, SELECT, CHUNKS = "calibrated_attention", "cached_attention", "select_tokens", "chunk_select"
CAUSAL = (
    r"(?:B1 H32 Hkv8 Q(4096|8192|16384) S\1 D(?:64|128)"
    r"|B32 H32 Hkv8 Q4096 S4096 D128|B4 H32 Hkv8 Q7600 S7600 D128) causal"
)
SELECTED, RANKED = r"B32 H\d+ Hkv8 S4096 D128 keep512 pool7", r"X1080 E4096 V128256 .*"
LINES = [
    Line(ATTENTION, CAUSAL, "the fastest stock kernel over it", fastest_stock(ATTENTION), 1.0),
    Line(ATTENTION, CAUSAL, "the fastest stock kernel over what chunks run by", chunks_over_stock, 1.0),
    Line(ATTENTION, CAUSAL, "it over attention by cuDNN", ratio(ATTENTION, "by-cudnn")),
    Line(ATTENTION, CAUSAL, "it over attention by flash", ratio(ATTENTION, "by-flash")),
    Line(ATTENTION, CAUSAL, "SDPA-cuDNN over it", ratio("sdpa-cudnn", ATTENTION)),
    Line(ATTENTION, CAUSAL, "SDPA-flash over it", ratio("sdpa-flash", ATTENTION)),
    Line(
        ATTENTION,
        r"B32 H32 Hkv8 Q4096 S4096 D128 causal r(8|64)",
        "with mass over without",
        ratio(ATTENTION, "floor-no-mass"),
        1.02,
        at_most=True,
    ),
    Line(SELECT, SELECTED, "torch over it", ratio("torch-topk", SELECT), 10.0),
    Line(SELECT, SELECTED, "it over the copy floor", ratio(SELECT, "floor-copy"), 1.8, at_most=True),
    # 268 MB of keys and values
    Line(CACHED, r"B16 .* P1 S4096 D128", "share of the copy bandwidth", ceiling, 0.8),
    # 34 and 134 MB
    Line(CACHED, r"B1 .* P[28] S4096 D128", "share of the copy bandwidth", ceiling),
    Line(CHUNKS, RANKED, "it over the bare GEMM", ratio(CHUNKS, "floor-gemm"), 1.7, at_most=True),
    Line(CHUNKS, RANKED, "bytes over those of bf16 logits", logits_share, 1 / 20, at_most=True),
]
# one row over 34 to 268 MB
READS = r"B(1 .* Q1 P[28]|16 .* Q1 P1) S4096 D128"


def kernel_lines(records: list[Record], ops: Collection[str] = ()) -> list[str]:
    """The ops' own compiled lanes and their baselines, by shape, every line once; no `ops` are all."""
    groups: dict[tuple[str, str], Lanes] = {}
    for record in records:
        if record.backend != "reference":
            groups.setdefault((record.op or "", record.shape or ""), {})[record.method] = record
    found: list[str] = []
    for line in LINES:
        if ops and line.op not in ops:
            continue
        shapes = [s for op, s in groups if op == line.op and re.fullmatch(line.shapes, s)]
        with_op = [s for s in shapes if line.op in groups[line.op, s]]
        found += [line.text(shape, groups[line.op, shape]) for shape in with_op]
        found += [] if with_op else [f"no figure: {line.op}: {line.says}: no record of this shape"]
    if not ops or CACHED in ops:
        found.append(fixed_cost([lanes[CACHED] for lanes in groups.values() if CACHED in lanes]))
    return list(dict.fromkeys(found))


def fixed_cost(lanes: list[Record]) -> str:
    """Microseconds that are left of `cached_attention` where the line from the fewest to the most bytes reads none."""
    timed = sorted(
        (lane.gib_per_s * lane.ms_p50, lane.ms_p50)
        for lane in lanes
        if re.fullmatch(READS, lane.shape or "")
        and lane.status == "ok"
        and on_device(lane)
        and lane.gib_per_s is not None
        and lane.ms_p50 is not None
    )
    if len({size for size, _ in timed}) < 2:
        return f"no figure: {CACHED}: fixed cost: fewer than two sizes with a time of the device"
    (few, quick), (many, slow) = timed[0], timed[-1]
    return f"no bar: {CACHED}: fixed cost {1e3 * (quick - few * (slow - quick) / (many - few)):.1f} us"


# a prompt whose chunks of 7.6K tokens are promised a speed-up
LONG_TOKENS, LONG_CHUNKS, LONG_SPEEDUP = 131072, 7600, 2.8


def prefill_lines(records: list[Record], model: dict[str, Any]) -> Iterator[str]:
    """Timed cells: status, parity, time, speed-up, stages, and how much less there is to compute than for `full`.

    Args:
        records: of the run.
        model: the manifest's.
    """
    for record in records:
        if record.workload is None or (record.ms_p50 is None and record.status == "ok"):
            continue
        chunks = record.method_config.get("chunk_tokens")
        parts = [f"{record.status}: {record.method}/{record.backend} {record.context_tokens} tokens {record.workload}"]
        parts += [f"chunks of {chunks}"] if chunks else []
        parts += [f"parity {record.parity_err:.1e} of {record.parity_bound:.1e}"] if record.parity_bound else []
        parts += [f"{record.ms_p50:.0f} ms"] if record.ms_p50 else []
        parts += [f"{record.speedup_vs_full:.2f}x {record.baseline}"] if record.speedup_vs_full else []
        found = operation_ratio(record, model)
        parts += [f"operation ratio {found:.2f}x"] if found is not None and not record.is_full else []
        parts += [f"{stage} {ms:.0f} ms" for stage, ms in (record.stages_ms or {}).items()]
        parts += [f"SDPA-{kernel} {ms:.0f} ms" for kernel, ms in (record.sdpa_ms or {}).items()]
        parts += [f"attention by {record.attention_kernel}"] if record.attention_kernel else []
        parts += [f"a call by {kernel} {ms:.3f} ms" for kernel, ms in (record.attention_ms or {}).items()]
        yield ", ".join(parts) + (f": {record.reason}" if record.reason else "")
        if (record.context_tokens, chunks) == (LONG_TOKENS, LONG_CHUNKS):
            what = f"{record.method}/{record.backend} {LONG_TOKENS} tokens, chunks of {chunks}: full over it"
            found = record.speedup_vs_full
            yield f"no figure: {what}" if found is None else verdict(what, found, LONG_SPEEDUP)


def operation_ratio(record: Record, model: dict[str, Any]) -> float | None:
    """Operations of full attention's prefill over those of a record's, with as many chunks as ran; no bound of times.

    None of a build whose manifest does not say what of a model's parameters is embedding and head.
    """
    if "outer_parameters" not in model:
        return None
    known = {field.name for field in fields(ModelSpec)}
    spec = ModelSpec(**{name: value for name, value in model.items() if name in known})
    tokens, config = record.context_tokens or 0, record.method_config
    if record.chunks and "chunk_tokens" in config:
        config = config | {"chunk_tokens": -(-tokens // record.chunks)}
    return flops(spec, "full", {}, tokens) / flops(spec, record.method, config, tokens)


def flops(spec: ModelSpec, method: str, config: dict[str, object], tokens: int) -> float:
    """Of one prefill of `tokens` tokens."""
    return load(METHODS, "method", method, "gpu_figures").Config.model_validate(config).cost(spec, tokens).flops


def main() -> None:
    folder, ops = Path(sys.argv[1]), sys.argv[2:]
    records = read_records(folder)
    lines: Iterable[str] = ["no figure: the run has no record"]
    if {record.kind for record in records} == {"kernel"}:
        lines = kernel_lines(records, ops)
    elif records:
        lines = prefill_lines(records, json.loads((folder / "manifest.json").read_text())["model"])
    for line in lines:
        print(line)


if __name__ == "__main__":
    main()
