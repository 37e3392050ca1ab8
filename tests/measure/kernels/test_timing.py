import re
from contextlib import contextmanager, nullcontext
from itertools import count
from types import SimpleNamespace

import pytest
import torch

from pcbench.measure.kernels.timing import RepeatedCall, make_sampler
from pcbench.measure.machine.ceilings import measure_ceilings


class Ticking:
    """A call that takes so many milliseconds of its own clock."""

    def __init__(self, ms):
        self.ms, self.now, self.calls = ms, 0.0, 0

    def __call__(self):
        self.calls += 1
        self.now += self.ms / 1e3

    def clock(self):
        return self.now


@pytest.mark.parametrize(("ms", "calls"), [(0.3, 7), (2.0, 1), (50.0, 1)])
def test_a_sample_lasts_two_milliseconds_and_counts_one_call(ms, calls):
    call = Ticking(ms)
    sampler = RepeatedCall(call, call.clock)
    before = call.calls
    assert sampler.sample() == pytest.approx(ms)
    assert call.calls - before == sampler.calls == calls


def test_a_call_shorter_than_the_clock_is_sampled():
    assert RepeatedCall(lambda: None, lambda: 0.0).sample() == 0.0


def test_make_sampler_repeats_on_a_cpu():
    seen = count()
    sampler = make_sampler(lambda: next(seen), torch.device("cpu"))
    assert sampler.sample() > 0
    assert next(seen) > 3


@pytest.fixture
def gpu(monkeypatch):
    """What `ReplayedCall` asks of torch.cuda, as a list of what happened."""
    seen = []

    class Graph:
        def replay(self):
            seen.append("replay")

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            seen.append("record")

        def synchronize(self):
            seen.append("wait")

        def elapsed_time(self, end):
            return 0.25

    class Buffer:
        def amax(self):
            seen.append("cold")

    def stream(*_):
        return SimpleNamespace(wait_stream=lambda other: None)

    fakes = {"Stream": stream, "current_stream": stream, "stream": nullcontext, "synchronize": lambda device: None}
    fakes |= {"CUDAGraph": Graph, "graph": nullcontext, "Event": Event}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr("pcbench.measure.kernels.timing._cold", lambda device: Buffer())
    return seen


def test_a_replayed_sample_is_one_graph_between_events_after_cold_caches(gpu):
    sampler = make_sampler(lambda: gpu.append("call"), torch.device("cuda"))
    # three to warm up, one captured
    assert gpu.count("call") == 4
    gpu.clear()
    assert sampler.sample() == 0.25
    assert gpu == ["cold", "record", "replay", "record", "wait"]
    assert (sampler.timed_by, sampler.warnings) == ("graph", [])


def test_a_call_that_cannot_be_captured_is_launched_and_says_so(gpu, monkeypatch):
    @contextmanager
    def refuses(graph):
        yield
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "graph", refuses)
    sampler = make_sampler(lambda: gpu.append("call"), torch.device("cuda"))
    gpu.clear()
    sampler.sample()
    assert gpu == ["cold", "record", "call", "record", "wait"]
    assert sampler.timed_by == "launches"
    assert sampler.warnings == ["timed with its launches, no graph: operation not permitted when stream is capturing"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("memory for [9] must be there, got CUDA out of memory"),
        RuntimeError("memory for [9] must be there, got an error that a torch before 2.13 does not tell"),
    ],
)
def test_running_out_of_memory_in_a_capture_is_not_timed_with_launches(gpu, monkeypatch, error):
    @contextmanager
    def full(_):
        raise error
        yield

    monkeypatch.setattr(torch.cuda, "graph", full)
    with pytest.raises(type(error), match=re.escape(str(error))):
        make_sampler(lambda: gpu.append("call"), torch.device("cuda"))


def test_ceilings_are_rates(monkeypatch):
    monkeypatch.setattr("pcbench.measure.machine.ceilings.PROBE_S", 0.0)
    monkeypatch.setattr("pcbench.measure.machine.ceilings.timed", lambda function, device: (function(), 2.0))
    found = measure_ceilings(torch.device("cpu"), torch.float32)
    assert found.flops_per_s == pytest.approx(2 * 1024**3 / 2e-3)
    assert found.bytes_per_s == pytest.approx((256 << 20) / 2e-3)
