import pytest
import torch
from harness_suite import ACCURACY, SUITE
from tiny import Wrong, make_prompt, make_runner

from pcbench import ops
from pcbench.errors import NotFinite
from pcbench.harness.kinds.methods import session
from pcbench.harness.kinds.methods.decoding import decode
from pcbench.harness.kinds.methods.finite import require_finite
from pcbench.harness.runner import Options, run
from pcbench.measure.kernels.shapes import SHAPES
from pcbench.measure.parity import compare_exact, compare_lse, compare_mass, compare_out
from pcbench.methods.full import Full
from pcbench.methods.parallel_comp import ParallelComp
from pcbench.models.finite import first_not_finite
from pcbench.types import no_stages

NAN, INF = float("nan"), float("inf")
TASK = {"prefill": "suite.workloads=['passkey']", "accuracy": "suite.tasks=['passkey']"}


@pytest.fixture
def suites(tmp_path):
    def of(kind):
        path = tmp_path / f"{kind}.toml"
        path.write_text({"prefill": SUITE, "accuracy": ACCURACY}[kind])
        sets = [TASK[kind], "suite.context_tokens=[300]"]
        return Options(suite=str(path), device="cpu", out=tmp_path / "run", sets=sets)

    return of


@pytest.fixture
def spoiled(monkeypatch):
    """Spoils every model once it is loaded; `how` gets the model."""
    real = session.load_runner

    def spoil(how):
        def load(*args, **kwargs):
            runner = real(*args, **kwargs)
            with torch.no_grad():
                how(runner.model)
            return runner

        monkeypatch.setattr(session, "load_runner", load)

    return spoil


def a_token(model):
    """The digit 1, which every prompt of the task has."""
    model.get_input_embeddings().weight[ord("1")] = NAN


def a_layer(model):
    model.model.layers[1].mlp.down_proj.weight[3] = NAN


def the_head(model):
    model.lm_head.weight[5] = NAN


def overflow(model):
    # inf − inf in the second layer alone
    model.model.layers[1].mlp.down_proj.weight[0] = torch.tensor([3e38, -3e38]).repeat(128)
    model.model.layers[1].mlp.up_proj.weight *= 1e30


@pytest.mark.parametrize("kind", ["prefill", "accuracy"])
@pytest.mark.parametrize(
    ("how", "where"),
    [(a_token, "the embeddings"), (a_layer, "layer 1"), (overflow, "layer 1"), (the_head, "after finite outputs")],
)
def test_numbers_that_are_not_finite_are_errors_with_their_layer(suites, console, spoiled, kind, how, where):
    spoiled(how)
    _, records = run(suites(kind), console)
    assert {(r.method, r.backend) for r in records} >= {("full", "torch"), ("parallel_comp", "cpu")}
    for record in records:
        assert record.status == "error", (record.method, record.reason)
        assert "finite numbers, got NaN or infinity in" in record.reason
        assert where in record.reason
        assert (record.score, record.speedup_vs_full, record.ms_p50) == (None,) * 3


@pytest.mark.parametrize("kind", ["prefill", "accuracy"])
def test_a_model_that_is_not_finite_when_it_is_loaded_is_an_error_of_its_cells(suites, console, monkeypatch, kind):
    real = session.load_runner

    def load(*args, **kwargs):
        runner = real(*args, **kwargs)
        with torch.no_grad():
            a_layer(runner.model)
        runner.verify()

    monkeypatch.setattr(session, "load_runner", load)
    _, records = run(suites(kind), console)
    assert {r.status for r in records} == {"error"}
    assert all(
        "random:tiny: finite logits, got NaN or infinity, first in the output of layer 1" in r.reason for r in records
    )


def test_a_chunk_without_a_scored_row_is_none_that_is_not_finite():
    runner = make_runner()
    prompt = make_prompt(prefix=0, context=0, query=1)
    method = ParallelComp(ParallelComp.Config().resolve(runner.spec, "cpu"), runner)
    prefilled = method.prefill(prompt, no_stages)
    assert prefilled.chunk_scores.tolist() == [INF]
    require_finite("here", runner, prefilled, decode(method, prefilled, 2, (), "cpu"), lambda: None)


def test_arguments_of_a_kernel_that_are_not_finite_are_not_its_fault(tmp_path, console, monkeypatch):
    monkeypatch.setattr("pcbench.measure.machine.ceilings.PROBE_S", 0.0)
    real = SHAPES["merge_states"].inputs

    def inputs(shape, draw):
        made = real(shape, draw)
        made["outs"][:] = NAN
        return made

    monkeypatch.setattr(SHAPES["merge_states"], "inputs", inputs)
    sets = ["kernel.merge_states.shapes=[{parts = 2, heads = 2, rows = 3, dim = 64}]", "suite.rounds=1"]
    options = Options(suite="kernels", device="cpu", out=tmp_path / "run", sets=sets, methods=["merge_states"])
    _, records = run(options, console)
    ours = [r for r in records if r.backend in ("cpu", "reference")]
    assert {r.status for r in ours} == {"error"}
    assert all("finite arguments, got NaN or infinity in out" in r.reason for r in ours)


class Steps:
    """Logits that are NaN from a step on."""

    def __init__(self, method, wrong):
        self.method, self.left = method, wrong

    def step(self, prefilled, token):
        logits = self.method.step(prefilled, token)
        self.left -= 1
        return logits if self.left else logits * NAN


@pytest.mark.parametrize("kind", [Full, ParallelComp])
def test_every_step_is_looked_at(kind):
    runner, prompt = make_runner(), make_prompt()
    method = kind(kind.Config().resolve(runner.spec, "cpu"), runner)
    for wrong in (1, 3):
        prefilled = method.prefill(prompt, no_stages)
        answered = decode(Steps(method, wrong), prefilled, 4, (), "cpu")
        with pytest.raises(NotFinite, match=f"here: .* the logits of token {wrong + 1} of the answer, after finite"):
            require_finite("here", runner, prefilled, answered, lambda: None)
    prefilled = method.prefill(prompt, no_stages)
    require_finite("here", runner, prefilled, decode(method, prefilled, 4, (), "cpu"), lambda: None)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_chunk_that_nobody_keeps_is_looked_at_too(backend):
    runner, prompt = make_runner(backend=backend), make_prompt(context=60)
    config = ParallelComp.Config(chunk_tokens=20, keep=1).resolve(runner.spec, "cpu")
    method = ParallelComp(config, runner)
    # a token of the last chunk alone
    prompt.context[:40], prompt.query[:], prompt.prefix[:] = 7, 8, 9
    with torch.no_grad():
        runner.model.get_input_embeddings().weight[int(prompt.context[50])] = NAN
    prefilled = method.prefill(prompt, no_stages)
    answered = decode(method, prefilled, 2, (), "cpu")
    assert prefilled.logits.isfinite().all()
    assert prefilled.chunk_scores.isnan().tolist() == [False, False, True]
    with pytest.raises(NotFinite, match="the score of chunk 2, first in the output of the embeddings"):
        require_finite("here", runner, prefilled, answered, lambda: method.prefill(prompt, no_stages))


def test_a_kernel_that_makes_nan_is_still_the_kernels_fault(suites, console, monkeypatch):
    class Broken(Wrong):
        def __getattr__(self, name):
            real = getattr(ops.backend("reference"), name)
            if name != "cached_attention":
                return real
            return lambda *args, **kwargs: tuple(x * NAN for x in real(*args, **kwargs))

    real = ops.backend
    monkeypatch.setattr(ops, "backend", lambda name, *_: Broken() if name == "cpu" else real(name))
    _, records = run(suites("accuracy"), console)
    ours = next(r for r in records if r.backend == "cpu")
    assert ours.status == "parity_failed"
    assert "cached_attention disagrees with the float64 reference" in ours.reason


def test_a_truth_that_is_not_finite_is_said():
    truth = torch.ones(4, 8, dtype=torch.float64)
    assert compare_out(truth, truth, truth, torch.float32).finite
    for special in (NAN, INF):
        spoiled = truth.clone()
        spoiled[1, 2] = special
        assert not compare_out(spoiled, spoiled, spoiled, torch.float32).finite
        assert not compare_mass(spoiled, spoiled, 2).finite
    assert not compare_lse(truth * NAN, truth * NAN, truth, torch.float32).finite
    assert not compare_exact(truth * NAN, truth * NAN).finite
    # a row without keys, an empty place
    assert compare_lse(truth * -INF, truth * -INF, truth, torch.float32).finite
    assert compare_exact(truth * INF, truth * INF).finite


def test_first_not_finite_names_the_first_part():
    model = make_runner().model
    ids = torch.arange(9)[None]
    assert first_not_finite(model, 2, lambda: model(ids)) is None
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight[0, 0] = NAN
    assert first_not_finite(model, 2, lambda: model(ids)) == "layer 1"
    with torch.no_grad():
        model.model.layers[0].input_layernorm.weight[0] = NAN
    assert first_not_finite(model, 2, lambda: model(ids)) == "layer 0"
    assert not any(module._forward_hooks for module in model.modules())
