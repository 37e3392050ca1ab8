import pytest
import torch
from tiny import continued, make_prompt

from pcbench import ops
from pcbench.errors import ConfigError
from pcbench.methods.full import Full
from pcbench.methods.parallel_comp import ParallelComp
from pcbench.models import load_runner, placement
from pcbench.models.placement import spread

CPU = torch.device("cpu")
CONFIG = ParallelComp.Config(chunk_tokens=16, keep=2, evict=dict(capacity=6, when="query", decode=True))


def loaded(**changes):
    return load_runner("random:tiny", CPU, torch.float32, ops.backend("reference"), **changes)


def answers(runner):
    prompt = make_prompt(context=50, new_tokens=6)
    methods = ParallelComp(CONFIG.resolve(runner.spec, "cpu"), runner), Full(Full.Config(), runner)
    return [continued(method, prompt)[1] for method in methods]


def test_a_model_in_accelerates_hands_gives_the_same_answers():
    spread_out = loaded(device_map={"": "cpu"})
    assert hasattr(spread_out.model.base_model.layers[0], "_hf_hook")
    for ours, plain in zip(answers(spread_out), answers(loaded()), strict=True):
        assert torch.equal(ours, plain)


def test_auto_needs_two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match='device_map: at least two GPUs for "auto", got 1; leave it out'):
        loaded(device_map="auto")


def test_another_word_than_auto_is_refused():
    with pytest.raises(ConfigError, match='device_map: "auto" or a table of part → device, got "balanced"'):
        loaded(device_map="balanced")


@pytest.mark.parametrize("second", [0.01, 1.0])
def test_auto_puts_whole_layers_on_the_gpus_or_says_that_they_are_too_small(second, monkeypatch):
    model, tables = loaded().model, []
    whole = sum(p.numel() * p.element_size() for p in model.parameters())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    free = {0: int(0.9 * whole), 1: int(second * whole), "cpu": 1 << 40}
    monkeypatch.setattr(placement, "get_balanced_memory", lambda *_, **__: free)
    monkeypatch.setattr(placement, "dispatch_model", lambda model, table, **_: tables.append(table) or model)
    if second < 1:
        with pytest.raises(ConfigError, match="device_map: 2 GPUs that hold the model, got parts left for cpu"):
            spread(model, "auto", torch.float32)
        return
    assert spread(model, "auto", torch.float32) is model
    assert set(tables[0].values()) == {0, 1}
    assert {name.split(".")[0] for name in tables[0]} <= {"model", "lm_head"}
