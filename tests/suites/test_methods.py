"""The suites of methods that ship: throughput and memory."""

from dataclasses import replace

import pytest

from pcbench.errors import ConfigError
from pcbench.harness.kinds.methods.cells import MethodCells, Rules
from pcbench.harness.progress import describe
from pcbench.harness.runner import Options, plan, run
from pcbench.measure.machine.ceilings import Ceilings
from pcbench.models import model_spec
from pcbench.ops.isa import cpu_isa, cpu_isas, use_cpu_isa
from pcbench.suites import load_suite

TINY = ["device.cpu.model=random:tiny", "cell.parallel_comp.chunk_tokens=320", "device.cpu.budget_bytes=8000000"]


def planned(name, *sets, **more):
    return plan(Options(suite=name, device="cpu", sets=[*TINY, "suite.context_tokens=[700]", *sets], **more))


@pytest.mark.parametrize("name", ["throughput", "memory"])
@pytest.mark.parametrize("preset", [None, "quick", "gpu"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_suite_is_for_full_attention_and_chunks_with_and_without_eviction(name, preset, device):
    suite = load_suite(name, device, preset=preset)
    assert suite.settings.kind == name
    assert suite.settings.budget_bytes > 0
    assert {cell.method for cell in suite.cells} == {"full", "parallel_comp"}
    ours = [cell.config for cell in suite.cells if cell.method == "parallel_comp"]
    assert {"evict" in config for config in ours} == {True, False}
    if name == "throughput":
        assert {config["micro_batch"] for config in ours} == {1, 2, 4}


@pytest.mark.parametrize("isa", cpu_isas())
@pytest.mark.parametrize("name", ["prefill", "throughput", "memory"])
def test_every_cell_has_the_dtype_that_is_fastest_here(name, isa):
    before = cpu_isa()
    use_cpu_isa(isa)
    try:
        found = planned(name, "suite.workloads=['passkey']")
    finally:
        use_cpu_isa(before)
    dtype = "bfloat16" if isa in ("amx", "avx512_bf16") else "float32"
    assert {p.cell.dtype for p in found.cells} == {dtype}
    # the command says it, because the fastest one elsewhere may be another
    assert f"suite.dtype={dtype}" in found.repro(found.cells[0])
    chosen = planned(name, "suite.dtype=float16", "suite.workloads=['passkey']")
    assert {p.cell.dtype for p in chosen.cells} == {"float16"}


def test_throughput_compares_compiled_with_reference_at_every_micro_batch():
    cells = [p.cell for p in planned("throughput").cells if p.cell.method == "parallel_comp"]
    kept = [cell for cell in cells if cell.method_config["evict"] is None]
    assert {(c.method_config["micro_batch"], c.backend) for c in kept} == {
        (batch, backend) for batch in (1, 2, 4) for backend in ("cpu", "reference")
    }


@pytest.fixture(scope="module")
def memory_run(tmp_path_factory, console):
    return measure("memory", tmp_path_factory, console)


@pytest.fixture(scope="module")
def throughput_run(tmp_path_factory, console):
    return measure("throughput", tmp_path_factory, console, "suite.repeats=2", "workload.passkey.new_tokens=4")


def measure(name, tmp_path_factory, console, *more):
    sets = [*TINY, "suite.context_tokens=[700]", *more]
    _, records = run(Options(suite=name, device="cpu", sets=sets, out=tmp_path_factory.mktemp(name) / "run"), console)
    assert {r.status for r in records} == {"ok"}
    return records


def split(records):
    """Records of full attention, of chunks that keep every token, of chunks that evict."""
    ours = [r for r in records if r.method == "parallel_comp"]
    full = [r for r in records if r.method == "full"]
    kept, evicting = ([r for r in ours if (r.method_config["evict"] is None) is whole] for whole in (True, False))
    return full, kept, evicting


def test_memory_has_peaks_exact_bytes_and_what_fits(memory_run):
    full, kept, evicting = split(memory_run)
    for record in memory_run:
        assert record.peak_bytes > 0
        assert record.kv_bytes == record.kv_bytes_predicted
        assert record.budget_bytes == 8_000_000
        assert record.longest_context_tokens > 700
        assert (record.ms_p50, record.speedup_vs_full, record.score, record.warnings) == (None, None, None, [])
    assert [r.chunks_that_fit for r in full] == [None]
    assert evicting[0].kv_bytes < kept[0].kv_bytes
    assert evicting[0].fit_ratio == evicting[0].chunks_that_fit / kept[0].chunks_that_fit
    assert [r.fit_ratio for r in (*full, *kept)] == [None, None]
    said = describe(evicting[0])
    assert f"{evicting[0].chunks_that_fit} chunks fit in 8 MiB, {evicting[0].fit_ratio:.2f}x without" in said


def test_throughput_has_rates_decoding_and_the_ratio_of_chunks_that_fit(throughput_run):
    full, kept, evicting = split(throughput_run)
    assert (len(full), len(kept), len(evicting)) == (1, 6, 1)
    for record in throughput_run:
        assert record.prefill_tokens_per_s == pytest.approx(696 / record.ms_p50 * 1e3)
        assert record.decode_ms_per_token > 0
        assert record.stages_ms["decode"] > 0
        assert (record.peak_bytes, record.score) == (None, None)
    for record in (*kept, *evicting):
        assert record.chunks_per_s == pytest.approx(record.chunks / record.ms_p50 * 1e3)
    compiled = [r for r in kept if r.backend == "cpu"]
    assert all(r.speedup_vs_reference > 0 and r.speedup_vs_full > 0 for r in compiled)
    assert evicting[0].fit_ratio == evicting[0].chunks_that_fit / compiled[0].chunks_that_fit


def test_throughput_decodes_to_a_fixed_length(tmp_path, console, monkeypatch):
    from pcbench.harness.kinds.methods import group

    seen = []
    real = group.decode
    monkeypatch.setattr(group, "decode", lambda *args, **more: seen.append(args[3]) or real(*args, **more))
    for name in ("throughput", "memory"):
        sets = [*TINY, "suite.context_tokens=[700]", "cell.full.backend='torch'"]
        run(Options(suite=name, device="cpu", sets=sets, methods=["full"], limit=1, out=tmp_path / name), console)
    spec = plan(Options(suite="memory", device="cpu", sets=TINY)).kind.spec
    assert seen == [(), spec.eos_ids]


@pytest.fixture
def rates(monkeypatch):
    """A machine of 1 GFLOP/s and 1 GB/s."""
    monkeypatch.setattr(
        "pcbench.harness.kinds.methods.estimate.glance_at_ceilings", lambda device, dtype: Ceilings(1e9, 1e9)
    )


@pytest.mark.parametrize("name", ["throughput", "memory"])
def test_a_dry_run_estimates_every_cell(name, rates):
    cells = planned(name).cells
    rows = list(planned(name).kind.estimates())
    assert [row.key for row in rows] == [prepared.cell.key for prepared in cells]
    assert all(row.seconds > 0 and row.why_not is None for row in rows)
    # prompts and the pass of warm-up with parity; where peak memory is measured three more
    passes = {"throughput": 5 + 1, "memory": 1 + 1 + 3}[name]
    assert {row.passes for row in rows} == {passes}


def test_a_dry_run_counts_what_decoding_reads(rates):
    spec = planned("throughput").kind.spec
    short, long = (
        next(
            planned(
                "throughput", f"workload.passkey.new_tokens={n}", "suite.dtype=float32", methods=["full"]
            ).kind.estimates()
        ).seconds
        for n in (2, 102)
    )
    # five prompts, 100 steps, four bytes a weight
    assert long - short == pytest.approx(5 * 100 * 4 * spec.parameters / 1e9)


def test_prompts_of_a_timed_workload_are_for_suites_that_score_them():
    with pytest.raises(
        ConfigError, match=r"\[0\].prompts: only where answers are scored, got 4 timed ones of kind thr"
    ):
        planned("throughput", "workload.passkey.prompts=4")
    assert {p.cell.prompts for p in plan(Options(suite="prefill", device="cpu")).cells} == {6}
    assert {p.cell.repeats for p in plan(Options(suite="prefill", device="cpu")).cells if p.cell.timed} == {5}


def test_make_bench_concludes():
    """Five repeats have intervals, six prompts verdicts and three passes of a peak a spread."""
    cells = plan(Options(suite="prefill", device="cpu", preset="bench")).cells
    assert {(p.cell.repeats, p.cell.prompts, p.effort.peak_passes) for p in cells} == {(5, 6, 3)}
    assert {(p.cell.method, p.cell.backend) for p in cells} == {
        ("full", "torch"), ("parallel_comp", "cpu"), ("parallel_comp", "reference")
    }  # fmt: skip


def test_a_budget_is_a_number_of_bytes():
    with pytest.raises(ConfigError, match=r"suite.budget_bytes: input should be greater than 0, got 0"):
        planned("memory", "suite.budget_bytes=0")


def chunk_sizes(*sets, device="cuda", **more):
    """Chunk sizes of `parallel_comp` in the suite `prefill`; no GPU is asked."""
    suite = load_suite("prefill", device, sets=["suite.workloads=['passkey']", *sets], **more)
    spec = replace(model_spec("random:tiny"), trained_tokens=TRAINED.get(suite.settings.model, 8192))
    cells = MethodCells(suite, spec, device, None, Rules()).all()
    return {p.cell.method_config["chunk_tokens"] for p in cells if p.cell.method == "parallel_comp"}


TRAINED = {"random:llama-2-7b": 4096, "random:gemma-7b": 8192}


def test_prefill_on_a_gpu_has_the_papers_chunks_beside_those_of_2048_where_the_model_was_trained_for_them():
    assert chunk_sizes() == {2048, 7600}
    assert chunk_sizes(preset="mha") == {2048}
    assert chunk_sizes(preset="dim256") == {2048, 7600}
    assert chunk_sizes(preset="quick") == {512}
    assert chunk_sizes("cell.parallel_comp.chunk_tokens=1024") == {1024}
    assert chunk_sizes(preset="all") == {256}
    assert chunk_sizes(device="cpu") == {2048}
    # a list where one runs: the least, cut to what the model was trained for
    assert chunk_sizes("cell.parallel_comp.chunk_tokens=[9000,8500]") == {8500}


def test_sizes_of_chunks_are_numbers_each_once():
    with pytest.raises(ConfigError, match=r"config\.chunk_tokens: input should be a valid integer, got 'many'"):
        chunk_sizes("cell.parallel_comp.chunk_tokens=[2048,'many']")
    with pytest.raises(ConfigError, match="chunk_tokens"):
        chunk_sizes("cell.parallel_comp.chunk_tokens=[]")
    with pytest.raises(ConfigError, match="once"):
        chunk_sizes("cell.parallel_comp.chunk_tokens=[2048,2048]")


def test_prefill_has_models_with_as_many_kv_heads_as_heads_and_with_heads_of_256():
    mha, wide = (model_spec(load_suite("prefill", "cuda", preset=name).settings.model) for name in ("mha", "dim256"))
    assert (mha.heads, mha.head_dim) == (mha.kv_heads, 128)
    assert wide.head_dim == 256
    backends = {(p.table.method, p.backend) for p in load_suite("prefill", "cuda", preset="dim256").plans()}
    assert backends == {("full", "torch"), ("parallel_comp", "auto"), ("parallel_comp", "reference")}
