"""`suite.compile`: norms, MLPs and rotations by torch.compile, here by its backend that compiles nothing."""

import pytest
import torch
from taped import graphs
from tiny import continued, make_prompt, make_runner
from torch._dynamo.utils import counters
from transformers.models.llama import modeling_llama

from pcbench.errors import ConfigError, ParityError
from pcbench.harness.kinds.methods import group
from pcbench.harness.runner import plan, run
from pcbench.measure import compiled
from pcbench.measure.compiled import compile_pieces, compiled_graphs
from pcbench.methods.full import Full
from pcbench.methods.parallel_comp import ParallelComp
from pcbench.methods.rope_scaling import RopeScaling
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


def answers(runner, tokens):
    """Of stock code and of chunks side by side."""
    chunks = ParallelComp.Config(chunk_tokens=16, micro_batch=2).resolve(runner.spec, "cpu")
    methods = Full(Full.Config(), runner), ParallelComp(chunks, runner)
    return [continued(method, make_prompt(prefix=1, context=tokens, query=2))[2] for method in methods]


@torch.inference_mode()
def test_one_graph_of_a_class_serves_every_layer_and_length(backend):
    runner = make_runner(num_hidden_layers=9)
    own = [(logits_of(runner, tokens), *answers(runner, tokens)) for tokens in (1, 40, 90)]
    made = compile_pieces(runner)
    assert made.ms > 0
    assert made.warning is None
    # a norm, an MLP and a rotation for a prompt, a token and several rows
    assert compiled_graphs() == 9
    names = {name for name, part in runner.model.named_modules() if "forward" in vars(part)}
    assert len(names) == 9 * 3 + 1
    # the shortest prompt has as many tokens as there are heads
    for tokens, (before, *said) in zip((1, 40, 90), own, strict=True):
        torch.testing.assert_close(logits_of(made.runner, tokens), before, rtol=1e-4, atol=1e-4)
        assert answers(made.runner, tokens) == said
    assert compiled_graphs() == 9
    # a model that is loaded again
    compile_pieces(make_runner(num_hidden_layers=9))
    assert compiled_graphs() == 9


@torch.inference_mode()
def test_a_rotation_is_compiled_in_forwards_of_its_runner_and_nowhere_else(backend):
    ran = []

    def counting(graph, inputs):
        return lambda *args: ran.append(graph) or graph.forward(*args)

    backend(counting)
    runner, scaled = make_runner(), RopeScaling(RopeScaling.Config(type="ntk", trained_tokens=512), make_runner())
    own, plain, other = (
        modeling_llama.apply_rotary_pos_emb,
        logits_of(runner, 40),
        scaled.prefill(make_prompt(), no_stages),
    )
    made = compile_pieces(runner).runner
    assert modeling_llama.apply_rotary_pos_emb is own
    ran.clear()
    # norms and MLPs, which are the model's for good, beside rotations
    torch.testing.assert_close(logits_of(made, 40), plain, rtol=1e-4, atol=1e-4)
    of_norms_and_mlps, turned = 3 * 2 + 1, 2
    assert len(ran) == of_norms_and_mlps + turned
    ran.clear()
    logits_of(runner, 40)
    assert len(ran) == of_norms_and_mlps
    ran.clear()
    scaled.runner = made
    again = scaled.prefill(make_prompt(), no_stages)
    torch.testing.assert_close(again.logits, other.logits, rtol=1e-4, atol=1e-4)
    assert len(ran) == of_norms_and_mlps + turned
    with pytest.raises(RuntimeError):
        made.stock_forward(torch.zeros(1, 4), None)
    assert modeling_llama.apply_rotary_pos_emb is own
    ran.clear()
    logits_of(make_runner(), 40)
    assert ran == []


def test_a_rotation_that_is_not_found_is_said(options, console, backend, monkeypatch):
    monkeypatch.setattr(compiled, "ROTATION", "turned")
    _, (record,) = run(options(methods=["full"], sets=[*SETS, "suite.compile=true"]), console)
    assert record.status == "ok"
    assert "suite.compile: rotations are the model's own code, in which no layer calls" in " ".join(record.warnings)


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

    def wrong(graph, inputs):
        # a rotation, of queries and keys, has two results
        return lambda *args: [x * (1.001 if len(found) == 2 else 1) for found in [graph.forward(*args)] for x in found]

    backend(wrong)
    own = modeling_llama.apply_rotary_pos_emb
    with pytest.raises(ParityError, match=r"^suite\.compile: apply_rotary_pos_emb as the model's own code computes it"):
        compile_pieces(make_runner())
    assert modeling_llama.apply_rotary_pos_emb is own


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
    made = compile_pieces(runner).runner
    torch.testing.assert_close(logits_of(made, 90), own, rtol=1e-4, atol=1e-4)
    assert compiled_graphs() == 9
