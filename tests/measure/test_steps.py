"""Steps as graphs: of every method, on a CPU by a tape that computes their ops again on the same tensors."""

import pytest
import torch
from taped import graphs
from tiny import make_prompt, make_runner

from pcbench.harness.kinds.methods.decoding import decode, replaying
from pcbench.measure.steps import NotCaptured, Replayed, StepLog, capture
from pcbench.registry import METHODS, WITHOUT_DEFAULTS, load
from pcbench.types import Prefilled, no_stages

CPU = torch.device("cpu")
NEW = 12
UNCOMP = {"head_groups": ["01", "10"], "tokens": 24}
# more of a method than its defaults; a window of uncomp's rolls, and a chunk of dual_chunk's ends, while it decodes
CASES = {
    "parallel_comp": {"chunk_tokens": 30, "keep": 2},
    "parallel_comp that evicts": {
        "chunk_tokens": 30,
        "keep": 2,
        "evict": {"capacity": 12, "rows": 4, "when": "query", "decode": True},
        "calibration": "paper",
    },
    "uncomp": UNCOMP,
    "uncomp with copies": UNCOMP | {"head_groups": ["0-", "-0"]},
    "uncomp_stage": UNCOMP | {"stages": [1, 1]},
    "snapkv that evicts": {"tokens": 24, "decode": "evict"},
    "chai": {"clusters": [1, 2]},
    "dual_chunk": {},
    "dual_chunk by means": {"period": 8, "clip": 12, "keep_chunks": 2, "tile_rows": 8},
    "dual_chunk by extremes": {"period": 8, "clip": 12, "keep_chunks": 2, "tile_rows": 8, "score": "max"},
    "rope_scaling": {"type": "yarn"},
    "star_attention": {"block_tokens": 30},
    "ape": {"chunk_tokens": 30},
    "xattention": {"block_tokens": 16, "stride": 8},
    "full": {},
}


def make(case, runner):
    cls = load(METHODS, "method", case.partition(" ")[0], "here")
    config = cls.Config.model_validate(CASES.get(case, {"tokens": 24}))
    return cls(config.resolve(runner.spec, "cpu"), runner)


@pytest.fixture(scope="module")
def runner():
    return make_runner(backend="cpu")


@pytest.mark.parametrize("case", [*(m for m in METHODS if m not in WITHOUT_DEFAULTS), *(c for c in CASES if " " in c)])
@torch.inference_mode()
def test_no_step_waits_and_replayed_ones_compute_what_launched_ones_do(case, runner):
    method, prompt = make(case, runner), make_prompt(context=80, new_tokens=NEW)
    is_stock = "ops" not in method.backends
    launched = decode(method, method.prefill(prompt, no_stages), NEW, (), CPU)
    with graphs():
        alike = replaying(method, prompt, CPU, stock=is_stock)
        prefilled = method.prefill(prompt, no_stages)
        replayed = decode(method, prefilled, NEW, (), CPU, steps=Replayed(method, prefilled, alike))
    assert alike == ("each" if is_stock else "once")
    assert replayed.tokens == launched.tokens
    assert torch.equal(torch.cat(replayed.largest), torch.cat(launched.largest))
    # the first is launched, and a graph that all replay is sent to the device by the second
    assert (len(launched.step_ms), len(replayed.step_ms)) == (NEW - 1, NEW - (2 if is_stock else 3))


@torch.inference_mode()
def test_of_a_long_answer_by_stock_code_the_first_steps_are_timed(runner, monkeypatch):
    monkeypatch.setattr("pcbench.measure.steps.MOST_EACH", 5)
    method, prompt = make("full", runner), make_prompt(context=80, new_tokens=NEW)
    launched = decode(method, method.prefill(prompt, no_stages), NEW, (), CPU)
    prefilled = method.prefill(prompt, no_stages)
    with graphs():
        replayed = decode(method, prefilled, NEW, (), CPU, steps=Replayed(method, prefilled, "each"))
    assert (replayed.tokens, len(replayed.step_ms)) == (launched.tokens, 4)


@pytest.mark.parametrize(("alike", "clocks"), [("once", 2), ("each", 3)])
@torch.inference_mode()
def test_no_clock_runs_while_the_device_does_what_comes_before(monkeypatch, alike, clocks):
    seen = []

    class Graph:
        def replay(self):
            seen.append("replay")

    monkeypatch.setattr("pcbench.measure.steps.capture", lambda call, device, beside: (call(), Graph()))
    monkeypatch.setattr("pcbench.measure.steps.wait", lambda device: seen.append("wait"))
    monkeypatch.setattr("time.perf_counter", lambda: seen.append("clock") or 0.0)
    method = Forgetful("in place")
    prefilled = method.prefill(None, no_stages)
    answered = decode(method, prefilled, 5, (), CPU, steps=Replayed(method, prefilled, alike))
    step = ["clock", "replay", "clock"] if alike == "once" else ["replay", "wait", "clock", "replay", "clock"]
    assert len(answered.step_ms) == clocks
    # the first is launched; of steps that are alike the second sends the graph
    assert seen == ["clock"] + (["clock", "replay"] if alike == "once" else []) + step * clocks


@torch.inference_mode()
def test_frequencies_that_the_host_reads_the_text_for_are_not_captured():
    runner = make_runner(backend="cpu", trained_tokens=64)
    cls = load(METHODS, "method", "rope_scaling", "here")
    method = cls(cls.Config(type="dynamic").resolve(runner.spec, "cpu"), runner)
    with graphs(), pytest.raises(NotCaptured, match=r"^the host waits in aten::\w+ at [\w/.]+:\d+$"):
        replaying(method, make_prompt(context=80, new_tokens=NEW), CPU, stock=True)


# logits by the token that they make the likeliest
LIKELY = torch.eye(300)


class Forgetful:
    """After token n comes n + its step's number; how it counts them, `keep` says."""

    def __init__(self, keep):
        self.keep = keep

    def prefill(self, prompt, stages):
        logits = LIKELY[[1]]
        state = {"steps": torch.zeros(1, dtype=torch.int64), "number": 0}
        return Prefilled(logits=logits, state=state, kept_tokens=lambda: 0.0, kv_bytes=0, kv_bytes_predicted=0)

    def step(self, prefilled, token):
        state = prefilled.state
        state["number"] += 1
        if self.keep == "in place":
            state["steps"] += 1
        elif self.keep == "in another tensor":
            state["steps"] = state["steps"] + 1
        elif self.keep == "on the host":
            state["steps"].fill_(state["number"])
        elif self.keep == "as a list":
            state["steps"] = torch.tensor([state["number"]])
        elif self.keep == "by reading":
            state["steps"] = state["steps"] + int(state["steps"] >= 0)
        if self.keep == "louder":
            # the same token whatever is read
            state["steps"] = state["steps"] + 1
            return LIKELY[7:8] * (1 + state["steps"])
        return LIKELY[token + state["steps"]]


@pytest.mark.parametrize(
    ("keep", "stock", "found"),
    [
        ("in place", False, "once"),
        ("in another tensor", False, "token 4 is another one where steps are replayed than where they are launched"),
        ("on the host", False, "a step differs from the one before it, first in aten::fill_.Scalar"),
        ("on the host", True, "each"),
        ("louder", False, "the logits of token 12 are others where steps are replayed than where they are launched"),
        ("as a list", False, "the host waits in aten::lift_fresh at measure/test_steps.py:"),
        ("by reading", False, "the host waits in aten::item at measure/test_steps.py:"),
    ],
)
@torch.inference_mode()
def test_what_a_step_must_not_do_is_found(keep, stock, found):
    method, prompt = Forgetful(keep), make_prompt(new_tokens=NEW)
    with graphs():
        if found in ("once", "each"):
            assert replaying(method, prompt, CPU, stock=stock) == found
        else:
            with pytest.raises(NotCaptured) as error:
                replaying(method, prompt, CPU, stock=stock)
            assert str(error.value).startswith(found)


def test_an_answer_of_few_tokens_leaves_nothing_to_replay():
    with pytest.raises(NotCaptured, match="an answer of 3 tokens leaves no step to time"):
        replaying(Forgetful("in place"), make_prompt(new_tokens=3), CPU, stock=False)


def test_a_log_names_what_the_host_waits_for():
    x = torch.arange(4)
    with StepLog(CPU) as log:
        x[x.clone()], x + 1, x[:2].clone()
        assert log.waits == []
        x[x > 1], x.nonzero(), torch.equal(x, x), x.to("meta")
    assert [wait.partition(" ")[0] for wait in log.waits] == [
        "aten::index.Tensor", "aten::nonzero", "aten::equal", "aten::_to_copy",
    ]  # fmt: skip


@pytest.fixture
def gpu(monkeypatch):
    """What `capture` asks of torch.cuda, as a list of what happened."""
    seen = []

    class Graph:
        def capture_begin(self, pool, capture_error_mode):
            seen.append(("begin", pool, capture_error_mode))

        def capture_end(self):
            seen.append("end")

        def pool(self):
            return "its memory"

    for name, fake in {"CUDAGraph": Graph, "synchronize": lambda device: None, "stream": lambda side: graphs()}.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr("pcbench.measure.steps._side", lambda device: None)
    return seen


def test_a_capture_shares_memory_and_says_what_the_device_refuses(gpu, monkeypatch):
    found, graph = capture(lambda: 7, CPU)
    assert (found, gpu) == (7, [("begin", None, "thread_local"), "end"])
    capture(lambda: 7, CPU, graph)
    assert gpu[2] == ("begin", "its memory", "thread_local")

    def refused():
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    # as CUDA says of a capture that something has spoilt
    def spoilt(self):
        gpu.append("end")
        raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr(torch.cuda.CUDAGraph, "capture_end", spoilt)
    with pytest.raises(NotCaptured, match=r"^operation not permitted when stream is capturing$"):
        capture(refused, CPU)
    assert gpu[-1] == "end"
    with pytest.raises(torch.OutOfMemoryError):
        capture(lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")), CPU)
