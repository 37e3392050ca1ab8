"""The figures that tools/gpu_figures.py reads from records, and whether they keep what was promised."""

import subprocess
import sys
from collections import Counter
from dataclasses import asdict

import pytest
from builds import ROOT
from gpu_figures import kernel_lines, operation_ratio, prefill_lines

from pcbench.types import Record


def record(op, shape, method, ms, backend="cuda", **more):
    fields = dict(suite="kernels", kind="kernel", group="g", cell=f"{op}{shape}{method}", model="", method_config={})
    fields |= dict(run="r", device="cuda", dtype="bfloat16", seed=0, workload=op, status="ok", ms_p50=ms)
    return Record(op=op, shape=shape, method=method, backend=backend, **fields | more)


ATTENTION = "B1 H32 Hkv8 Q4096 S4096 D128 causal"
LAUNCHED = {"warnings": ["timed with its launches, no graph: it waits"]}


ABSENT = ("no record of this shape", "fewer than two sizes with a time of the device")


def lines_of(*records):
    return [line for line in kernel_lines(list(records)) if not line.endswith(ABSENT)]


def attention(ms, **stock):
    """Lines of `calibrated_attention` and what stock kernels, or attention by libraries, took."""
    op = "calibrated_attention"
    others = [record(op, ATTENTION, name.replace("_", "-"), theirs, "torch") for name, theirs in stock.items()]
    return lines_of(record(op, ATTENTION, op, ms), *others)


@pytest.mark.parametrize(("ms", "word"), [(1.0, "met"), (1.3, "NOT MET")])
def test_attention_is_held_against_the_fastest_stock_kernel_of_the_run(ms, word):
    head = f"calibrated_attention {ATTENTION}"
    assert attention(ms, sdpa_flash=1.5, sdpa_cudnn=1.2, sdpa_math=9.0, by_cudnn=1.25, by_flash=1.6) == [
        f"{word}: {head}: the fastest stock kernel over it {1.2 / ms:.3f}, wanted >= 1",
        # chunks run by the faster of the two
        f"{word}: {head}: the fastest stock kernel over what chunks run by {1.2 / min(ms, 1.25):.3f}, wanted >= 1",
        f"no bar: {head}: it over attention by cuDNN {ms / 1.25:.3f}",
        f"no bar: {head}: it over attention by flash {ms / 1.6:.3f}",
        f"no bar: {head}: SDPA-cuDNN over it {1.2 / ms:.3f}",
        f"no bar: {head}: SDPA-flash over it {1.5 / ms:.3f}",
    ]
    # a machine without cuDNN
    found = attention(ms, sdpa_flash=1.5)
    assert found[0] == f"met: {head}: the fastest stock kernel over it {1.5 / ms:.3f}, wanted >= 1"
    assert f"no figure: {head}: SDPA-cuDNN over it" in found


@pytest.mark.parametrize("sides", [(LAUNCHED, {}), ({}, LAUNCHED), (LAUNCHED, LAUNCHED)])
def test_lanes_that_were_timed_with_their_launches_give_no_figure(sides):
    op = "calibrated_attention"
    ours, theirs = sides
    found = lines_of(
        record(op, ATTENTION, op, 1.0, **ours), record(op, ATTENTION, "sdpa-flash", 1.2, "torch", **theirs)
    )
    says = ("the fastest stock kernel over it", "the fastest stock kernel over what chunks run by")
    says += ("it over attention by cuDNN", "it over attention by flash", "SDPA-cuDNN over it", "SDPA-flash over it")
    assert found == [f"no figure: {op} {ATTENTION}: {name}" for name in says]


def test_a_bandwidth_that_was_timed_with_its_launches_is_no_figure():
    op, shape = "cached_attention", "B1 H32 Hkv8 Q1 P2 S4096 D128"
    found = lines_of(record(op, shape, op, 1.0, ceiling_ratio=0.9, **LAUNCHED))
    assert found == [f"no figure: {op} {shape}: share of the copy bandwidth"]


@pytest.mark.parametrize("status", ["parity_failed", "error", "unsupported"])
def test_an_op_that_gave_no_time_says_why(status):
    op = "calibrated_attention"
    ours = record(op, ATTENTION, op, None, status=status, reason="out: 1e-1 of 8e-3")
    found = lines_of(ours, record(op, ATTENTION, "sdpa-flash", 1.2, "torch"))
    assert found == [f"no figure: {op} {ATTENTION}: {status}: out: 1e-1 of 8e-3"]


def test_a_baseline_that_gave_no_time_gives_no_figure():
    op = "calibrated_attention"
    theirs = record(op, ATTENTION, "sdpa-flash", 1.2, "torch", status="error", reason="broken")
    found = lines_of(record(op, ATTENTION, op, 1.0), theirs)
    assert f"no figure: {op} {ATTENTION}: the fastest stock kernel over it" in found
    assert not [line for line in found if not line.startswith("no figure")]


def test_bytes_and_bandwidth_are_read():
    small, large, chunks = (
        "B1 H32 Hkv8 Q1 P2 S4096 D128",
        "B16 H32 Hkv8 Q1 P1 S4096 D128",
        "X1080 E4096 V128256 M36 K3",
    )
    found = lines_of(
        record("cached_attention", small, "cached_attention", 1.0, ceiling_ratio=0.5),
        record("cached_attention", large, "cached_attention", 1.0, ceiling_ratio=0.9),
        record("chunk_select", chunks, "chunk_select", 1.1, peak_bytes=1080 * 128256 // 5),
        record("chunk_select", chunks, "floor-gemm", 1.0, "torch"),
    )
    assert found == [
        f"met: cached_attention {large}: share of the copy bandwidth 0.900, wanted >= 0.8",
        f"no bar: cached_attention {small}: share of the copy bandwidth 0.500",
        f"met: chunk_select {chunks}: it over the bare GEMM 1.100, wanted <= 1.7",
        f"NOT MET: chunk_select {chunks}: bytes over those of bf16 logits 0.100, wanted <= 0.05",
    ]


def test_the_fixed_cost_is_what_no_bytes_would_take():
    op, rate = "cached_attention", 4.0

    def read(batch, slots, gib, ms, **more):
        shape = f"B{batch} H32 Hkv8 Q1 P{slots} S4096 D128"
        return record(op, shape, op, ms, gib_per_s=gib / (ms / 1e3), **more)

    # 7 microseconds and so many bytes a millisecond
    lanes = [read(b, p, gib, 0.007 + gib / rate) for b, p, gib in ((1, 2, 1 / 32), (1, 8, 1 / 8), (16, 1, 1 / 4))]
    assert kernel_lines(lanes, [op])[-1] == f"no bar: {op}: fixed cost 7.0 us"
    launched = [read(1, 2, 1 / 32, 0.1, **LAUNCHED), *lanes[2:]]
    assert kernel_lines(launched, [op])[-1].endswith(ABSENT[1])


def test_a_run_without_records_of_a_shape_says_so():
    found = kernel_lines([])
    assert all(line.startswith("no figure: ") and line.endswith(ABSENT) for line in found)
    ops = ("calibrated_attention", "cached_attention", "chunk_select", "select_tokens")
    assert {line.split(": ")[1] for line in found} == {*ops}
    assert {line.split(": ")[1] for line in kernel_lines([], ops[:2])} == {*ops[:2]}


def test_the_shapes_of_the_suite_are_those_that_figures_are_read_from():
    from pcbench.harness.kinds.kernel.cells import prepare_kernels
    from pcbench.suites import load_suite

    cells = prepare_kernels(load_suite("kernels", "cuda"), "cuda")
    made = [
        record(p.op, str(p.shape), p.cell.method, 1.0, p.cell.backend, ceiling_ratio=1.0, peak_bytes=1) for p in cells
    ]
    for lane, p in zip(made, cells, strict=True):
        lane.gib_per_s = p.shape.work(2).bytes
    found = kernel_lines(made)
    assert not [line for line in found if line.startswith("no figure")]
    counts = Counter(line.partition(": ")[2].split()[0].strip(":") for line in found)
    assert counts == {"calibrated_attention": 6 * 8 + 2, "select_tokens": 4, "cached_attention": 4, "chunk_select": 2}


MODEL = "random:llama-3-8b"


def prefilled(chunk_tokens, chunks, **more):
    config = {"chunk_tokens": chunk_tokens, "keep": 1, "micro_batch": 1, "evict": None, "calibration": []}
    fields = dict(suite="prefill", kind="prefill", group="g", cell=f"c{chunk_tokens}", model=MODEL, run="r", seed=0)
    fields |= dict(device="cuda", dtype="bfloat16", workload="passkey", method="parallel_comp", backend="cuda")
    fields |= dict(method_config=config, context_tokens=131072, chunks=chunks, ms_p50=4000.0)
    return Record(**fields | more)


def test_prefill_at_128k_is_held_against_its_bar_beside_its_operation_ratio():
    from pcbench.models import model_spec

    model, full = asdict(model_spec(MODEL)), {"baseline": "full/torch/sdpa-cudnn"}
    head = "parallel_comp/cuda 131072 tokens"
    tried = dict(method="full", backend="torch", method_config={}, sdpa_ms={"flash": 13000.0, "cudnn": 12000.0})
    found = prefill_lines(
        [
            prefilled(None, None, **tried),
            prefilled(2048, 64, speedup_vs_full=2.9, **full),
            prefilled(7600, 18, speedup_vs_full=2.7, **full),
            prefilled(7600, None, status="parity_failed", ms_p50=None, reason="wrong"),
        ],
        model,
    )
    # 2·(parameters of the layers)·T + 4·L·H·D·(pairs), by hand
    assert list(found) == [
        "ok: full/torch 131072 tokens passkey, 4000 ms, SDPA-flash 13000 ms, SDPA-cudnn 12000 ms",
        f"ok: {head} passkey, chunks of 2048, 4000 ms, 2.90x full/torch/sdpa-cudnn, operation ratio 3.33x",
        f"ok: {head} passkey, chunks of 7600, 4000 ms, 2.70x full/torch/sdpa-cudnn, operation ratio 3.05x",
        f"NOT MET: {head}, chunks of 7600: full over it 2.700, wanted >= 2.8",
        f"parity_failed: {head} passkey, chunks of 7600, operation ratio 3.05x: wrong",
        f"no figure: {head}, chunks of 7600: full over it",
    ]
    # one chunk more than its size says, because the question needs room
    assert operation_ratio(prefilled(8192, 17), model) > operation_ratio(prefilled(8192, 16), model)


def test_figures_of_an_older_run_name_speed_and_stages_and_no_operation_ratio():
    run = ROOT / "reports/examples/prefill_xeon2c_202611"
    done = subprocess.run([sys.executable, ROOT / "tools/gpu_figures.py", run], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line = next(x for x in done.stdout.splitlines() if "parallel_comp/cpu 8192" in x)
    for part in ("ok: ", "chunks of 2048", "parity ", " ms, ", "x full/torch/sdpa-", "selection ", "query "):
        assert part in line
    assert "operation ratio" not in line
