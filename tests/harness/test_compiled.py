"""`suite.compile`: norms and MLPs by torch.compile, here by its backend that compiles nothing."""

import pytest
import torch
from taped import graphs
from tiny import make_prompt, make_runner
from torch._dynamo.utils import counters

from pcbench.errors import ConfigError, ParityError
from pcbench.harness.kinds.methods import group
from pcbench.harness.runner import plan, run
from pcbench.measure import compiled
from pcbench.measure.compiled import compile_pieces, compiled_graphs
from pcbench.methods.full import Full
from pcbench.types import no_stages

SETS = ["suite.context_tokens=[300]", "suite.workloads=['passkey']", "suite.repeats=2"]


@pytest.fixture
def backend(monkeypatch):
    """Chooses what torch.compile compiles with, as if nothing had been compiled before."""

    def choose(name):
        torch._dynamo.reset()
        counters.clear()
        compiled._compiled.cache_clear()
        monkeypatch.setattr(compiled, "BACKEND", name)

    choose("aot_eager")
    yield choose
    torch._dynamo.reset()
    compiled._compiled.cache_clear()


def logits_of(runner, tokens):
    return Full(Full.Config(), runner).prefill(make_prompt(context=tokens), no_stages).logits


@torch.inference_mode()
def test_one_graph_of_a_class_serves_every_layer_and_length(backend):
    runner = make_runner(num_hidden_layers=9)
    own = [logits_of(runner, tokens) for tokens in (40, 90)]
    assert compile_pieces(runner) > 0
    # a norm and an MLP for a prompt, a token and several rows
    assert compiled_graphs() == 6
    names = {name for name, part in runner.model.named_modules() if "forward" in vars(part)}
    assert len(names) == 9 * 3 + 1
    for tokens, before in zip((40, 90), own, strict=True):
        torch.testing.assert_close(logits_of(runner, tokens), before, rtol=1e-4, atol=1e-4)
    assert compiled_graphs() == 6
    # a model that is loaded again
    compile_pieces(make_runner(num_hidden_layers=9))
    assert compiled_graphs() == 6


def test_cells_are_others_and_say_what_compiling_took(options, console, backend, monkeypatch):
    monkeypatch.setattr(group, "are_replayed", lambda device: True)
    chosen = dict(methods=["full", "parallel_comp"])
    sets = [*SETS, "workload.passkey.new_tokens=6", "cell.parallel_comp.backend='cpu'"]
    with graphs():
        _, records = run(options(**chosen, sets=[*sets, "suite.compile=true"]), console)
    own = [prepared.cell for prepared in plan(options(**chosen, sets=sets)).cells]
    assert [(record.status, record.reason, record.peak_bytes) for record in records] == [("ok", None, None)] * 2
    assert [record.decode_replayed for record in records] == ["each", "once"]
    assert {cell.key for cell in own}.isdisjoint(record.cell for record in records)
    assert {cell.group for cell in own}.isdisjoint(record.group for record in records)
    assert all(record.compile_ms > 0 for record in records)
    assert not any("compile" in warning for record in records for warning in record.warnings)
    assert records[1].speedup_vs_full > 0


def test_a_pass_that_compiles_says_so(options, console, backend, monkeypatch):
    graphs_of = iter(range(100))
    monkeypatch.setattr(compiled, "compiled_graphs", lambda: next(graphs_of))
    monkeypatch.setattr(group, "compiled_graphs", lambda: 0)
    _, (record,) = run(options(methods=["full"], sets=[*SETS, "suite.compile=true"]), console)
    assert "a timed pass compiled 1 graphs: its time holds that" in record.warnings


def test_what_does_not_compile_or_computes_something_else_ends_the_run(options, console, backend):
    def broken(graph, inputs):
        raise RuntimeError("no compiler")

    backend(broken)
    said = (
        r"^suite\.compile: torch\.compile that works here, got \w+: .*; install g\+\+ .* or leave suite\.compile out$"
    )
    with pytest.raises(ConfigError, match=said):
        run(options(methods=["full"], sets=[*SETS, "suite.compile=true"]), console)
    backend(lambda graph, inputs: lambda *args: [x * 1.001 for x in graph.forward(*args)])
    with pytest.raises(ParityError, match=r"^suite\.compile: Llama\w+ as the model's own code computes it, got"):
        compile_pieces(make_runner())


def test_peaks_are_not_measured_of_a_compiler(options, suite_file, console):
    suite_file.write_text(suite_file.read_text().replace('kind = "prefill"', 'kind = "memory"'))
    with pytest.raises(ConfigError, match=r"suite\.compile: false where peak memory is measured"):
        run(options(sets=["suite.compile=true"]), console)


@pytest.mark.slow
@torch.inference_mode()
def test_the_compiler_of_torch(backend):
    backend("inductor")
    runner = make_runner()
    own = logits_of(runner, 90)
    compile_pieces(runner)
    torch.testing.assert_close(logits_of(runner, 90), own, rtol=1e-4, atol=1e-4)
    assert compiled_graphs() == 6
