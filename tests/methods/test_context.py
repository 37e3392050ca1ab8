"""Methods that read what stands before a question once."""

from dataclasses import replace

import pytest
import torch
from tiny import continued, make_prompt, make_runner

from pcbench.registry import METHODS, load
from pcbench.types import no_stages

# what of a context stays, what new tokens displace, and where keys stand, each in one of them
READING = {
    "full": {},
    "snapkv": {"tokens": 16},
    "h2o": {"tokens": 16},
    "tova": {"tokens": 16},
    "streaming_llm": {"tokens": 16},
    "chai": {},
    "adakv": {"share": 0.5},
    "dual_chunk": {"trained_tokens": 24},
    "dual_chunk/gain": {"trained_tokens": 24, "gain": "yarn"},
    "rope_scaling": {"trained_tokens": 24},
    "star_attention": {},
    "ape": {"chunk_tokens": 14},
}


def made(name, **settings):
    kind = load(METHODS, "method", name, "test")
    runner = make_runner()
    return kind(kind.Config(**settings).resolve(runner.spec, "cpu"), runner)


@pytest.mark.parametrize("name", READING)
@torch.inference_mode()
def test_questions_to_a_context_that_was_read_are_answered_as_if_it_were_read_again(name):
    kind, *_ = name.split("/")
    whole = kind in ("full", "dual_chunk", "rope_scaling", "star_attention", "ape")
    method = made(kind, **READING[name] | ({} if whole else {"compress": "context"}))
    prompts = [replace(make_prompt(), query=make_prompt(query=n, seed=n).query) for n in (7, 1, 90, 7)]
    read, each = method.read_context(prompts[0], no_stages), []
    for prompt in prompts:
        expected = continued(method, prompt, steps=6)[1]
        asked = lambda _, stages, prompt=prompt: method.ask(read, prompt, stages)  # noqa: E731
        found = continued(Asking(method, asked), prompt, steps=6)[1]
        assert torch.allclose(found, expected, atol=1e-4)
        each.append(found)
    # whatever was asked before
    assert torch.equal(each[0], each[3])


class Asking:
    """A method that prefills otherwise."""

    def __init__(self, method, prefill):
        self.prefill, self.step = prefill, method.step


@torch.inference_mode()
def test_what_the_question_has_a_say_in_is_not_read_before_it():
    assert made("snapkv", tokens=16).read_context(make_prompt(), no_stages) is None
    assert made("snapkv", tokens=16, compress="context").read_context(make_prompt(0, 0), no_stages) is None
    assert made("dual_chunk", trained_tokens=24, keep_chunks=1).read_context(make_prompt(), no_stages) is None
    assert made("star_attention").read_context(make_prompt(0, 0), no_stages) is None
    assert made("rope_scaling", type="dynamic").read_context(make_prompt(), no_stages) is None
    assert not hasattr(made("parallel_comp"), "read_context")
    assert not hasattr(made("xattention"), "read_context")
