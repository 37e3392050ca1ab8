"""Runs whose attention of chunks is a library's: the CPU's flash kernel of torch."""

from types import SimpleNamespace

import pytest
import torch
from harness_suite import ACCURACY
from tiny import make_runner

from pcbench import ops
from pcbench.harness.kinds.methods import peak
from pcbench.harness.runner import plan, run
from pcbench.ops.providers import PROVIDERS, Attending
from pcbench.ops.providers.kernels import find_kernel
from pcbench.ops.providers.libraries import Provider

SMALL = ["suite.context_tokens=[300]", 'suite.workloads=["passkey"]', "suite.repeats=1"]
FLASH = [*SMALL, 'cell.parallel_comp.attention="flash"', "cell.parallel_comp.micro_batch=3"]


def by_cell(records):
    return {(r.method, r.backend): r for r in records}


def test_a_run_by_a_library_is_checked_and_says_by_what_it_ran(options, console):
    sets = [*FLASH, 'cell.parallel_comp.backend="cpu"']
    _, (ours,) = run(options(limit=1, methods=["parallel_comp"], sets=sets), console)
    assert (ours.status, ours.reason) == ("ok", None)
    assert (ours.attention_kernel, ours.attention_ms) == ("flash", None)
    assert ours.method_config["attention"] == "flash"
    assert ours.parity_ops["calibrated_attention"]["err"] <= ours.parity_ops["calibrated_attention"]["bound"]
    assert None not in (ours.ms_p50, ours.peak_bytes)


def test_a_default_leaves_the_cells_as_they_were(options):
    plain, named = (plan(options(sets=sets)).cells for sets in (SMALL, [*SMALL, 'cell.parallel_comp.attention="own"']))
    assert all("attention" not in item.cell.method_config for item in plain)
    assert [a.cell.key == b.cell.key for a, b in zip(plain, named, strict=True)] == [True, False, False]


def test_a_library_that_is_not_here_is_unsupported_and_says_why(options, console):
    sets = [*SMALL, 'cell.parallel_comp.attention="cudnn"']
    _, records = run(options(limit=1, sets=sets), console)
    found = by_cell(records)
    line = 'attention: cudnn must be able to run here, got: it needs a GPU; take "own"'
    assert (found["parallel_comp", "cpu"].status, found["parallel_comp", "cpu"].reason) == ("unsupported", line)
    others = {name: (r.status, r.attention_kernel) for name, r in found.items() if r.backend != "cpu"}
    assert others == {("full", "torch"): ("ok", None), ("parallel_comp", "reference"): ("ok", None)}
    reasons = {row.cell.split(" on ")[0]: row.why_not for row in plan(options(sets=sets)).kind.estimates()}
    assert reasons["ParallelComp"] == "attention by cudnn: it needs a GPU"
    assert reasons["ParallelComp, in pure PyTorch"] is None


@pytest.fixture
def provider(monkeypatch):
    """Puts an attention into the place of torch's flash kernel."""

    def put(attend):
        monkeypatch.setitem(PROVIDERS, "flash", Provider(attend, lambda device: None, PROVIDERS["flash"].on_cpu))
        find_kernel.cache_clear()

    yield put
    monkeypatch.undo()
    find_kernel.cache_clear()


def test_a_library_that_is_wrong_where_no_small_call_shows_it_has_no_speed(options, console, provider):
    real = PROVIDERS["flash"].attend

    def attend(q, k, v, scale):
        out, lse = real(q, k, v, scale)
        # one row of one head
        if q.shape[2] > 100:
            out[-1, -1, 90] *= 1.001
        return out, lse

    provider(attend)
    _, records = run(options(limit=1, sets=FLASH), console)
    wrong = by_cell(records)["parallel_comp", "cpu"]
    assert (wrong.status, wrong.ms_p50, wrong.speedup_vs_full) == ("parity_failed", None, None)
    assert wrong.reason == "calibrated_attention disagrees with the float64 reference"
    assert wrong.attention_kernel == "flash"


def test_no_timed_pass_measures_kernels(options, console, monkeypatch):
    settled = []
    monkeypatch.setattr(Attending, "settle", lambda self: settled.append(dict(self.used)))
    sets = [*FLASH, 'cell.parallel_comp.backend="cpu"']
    run(options(limit=1, methods=["parallel_comp"], sets=sets), console)
    # once, behind the pass of parity
    assert [list(used) for used in settled] == [["flash"]]


def test_a_pass_that_tries_kernels_is_no_peak(monkeypatch):
    found, sizes = ops.backend("cpu", "flash"), iter([900, 500, 501])

    def once(prepared, runner, device):
        size = next(sizes)
        found.trials += size == 900
        return peak.Peak(size)

    for name, fake in {
        "torch_device": lambda kind: torch.device("cpu"),
        "load_runner": lambda *_, **__: make_runner(),
        "_pass": once,
    }.items():
        monkeypatch.setattr(peak, name, fake)
    monkeypatch.setattr(ops, "backend", lambda *_: found)
    cell = SimpleNamespace(device="cuda", backend="cuda", model="tiny", dtype="float32", quantize=None)
    effort = SimpleNamespace(sdpa=None, peak_passes=2)
    passes = peak._passes(SimpleNamespace(cell=cell, attention="auto", effort=effort))
    assert [one.bytes for one in passes] == [500, 501]


def test_scores_say_by_what_they_ran(options, suite_file, console):
    suite_file.write_text(ACCURACY.replace('average = ["passkey", "kv_retrieval"]', "").replace(', "kv_retrieval"', ""))
    methods = ["full", "parallel_comp", "snapkv", "h2o"]
    sets = [f'cell.{name}.attention="flash"' for name in ("parallel_comp", "snapkv")]
    _, records = run(options(limit=1, methods=methods, sets=sets), console)
    wanted = {"full": None, "parallel_comp": "flash", "snapkv": "flash", "h2o": "own"}
    assert {r.method: (r.status, r.attention_kernel) for r in records} == {n: ("ok", k) for n, k in wanted.items()}


def test_a_dry_run_counts_the_kernels_that_a_gpu_tries(options, monkeypatch):
    def passes():
        return {row.cell.split(" on ")[0]: row.passes for row in plan(options(sets=SMALL)).kind.estimates()}

    before = passes()
    monkeypatch.setattr("pcbench.harness.kinds.methods.estimate.is_tried", lambda device: True)
    # four kernels, three passes each
    assert passes() == before | {"Full attention": before["Full attention"] + 12}


def test_answers_take_the_key(monkeypatch):
    import pcbench

    named = []
    real = ops.backend
    monkeypatch.setattr(ops, "backend", lambda *names: named.append(names) or real(*names))
    runner = make_runner()
    told = dict(method="parallel_comp", chunk_tokens=20, keep=1, attention="flash")
    pcbench.answer(runner.model, runner.tokenizer, context="some text " * 8, question="what?", new_tokens=2, **told)
    assert ("cpu", "flash") in named
