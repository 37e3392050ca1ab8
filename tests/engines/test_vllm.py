"""vLLM's process by a stand-in for the package, whose answers count on from the last token of a prompt."""

import os
import sys
import time

import pytest

from pcbench.engines import Loads, opened
from pcbench.errors import ConfigError, EngineError, EngineSlow

LOADS = Loads("a/model", "float32", 64)
# the part of vLLM's offline API that is used, in a process that knows nothing of pcbench
PACKAGE = """
import os
import time
from types import SimpleNamespace

clock = 0.0
time.perf_counter = lambda: clock
__version__ = "0.0.made"
print("vLLM says a lot on stdout")


class SamplingParams:
    def __init__(self, temperature, max_tokens, ignore_eos):
        assert temperature == 0.0
        self.max_tokens = max_tokens


class LLM:
    def __init__(self, model, dtype, max_model_len, enable_prefix_caching, disable_log_stats):
        assert not enable_prefix_caching
        assert (model, dtype, max_model_len) == ("a/model", "float32", 64)
        if HOW == "dies":
            os._exit(3)

    def generate(self, prompts, sampling, use_tqdm):
        global clock
        ids = prompts[0]["prompt_token_ids"]
        made = [ids[-1] + 1 + i for i in range(sampling.max_tokens)]
        if HOW == "hangs":
            time.sleep(60)
        # a second to the first token and half a one for each later, by its own statistics half of that
        later = sampling.max_tokens - 1
        clock += 1.0 + 0.5 * later
        times = dict(scheduled_ts=100.0, first_token_ts=100.5, last_token_ts=100.5 + 0.25 * later)
        output = SimpleNamespace(token_ids=made, text="made")
        metrics = None if HOW == "untimed" else SimpleNamespace(**times)
        return [SimpleNamespace(outputs=[output], metrics=metrics, prompt_token_ids=ids, num_cached_tokens=0)]
"""


@pytest.fixture
def python(tmp_path):
    """A Python that has the stand-in, which goes wrong in a way that is named."""

    def make(how=""):
        (tmp_path / "vllm.py").write_text(f"HOW = {how!r}\n{PACKAGE}")
        path = tmp_path / "python"
        path.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
        path.chmod(0o755)
        return f"vllm:{path}"

    return make


@pytest.mark.parametrize(("how", "prefill_ms", "rate"), [("", 500.0, 4.0), ("untimed", None, 2.0)])
def test_vllm_answers_in_a_process_of_its_own(python, how, prefill_ms, rate):
    ids = [5, 6, 7, 8]
    with opened(python(how), LOADS, 60.0) as engine:
        one, answer = engine.complete(ids, 1), engine.complete(ids, 4)
        pid = engine.process.pid
        assert engine.serving == "vLLM 0.0.made"
    assert (one.tokens, answer.tokens, answer.text) == ([9], [9, 10, 11, 12], "made")
    assert (one.tokens_per_s, one.cached_tokens) == (None, 0)
    assert (one.first_ms, one.prefill_ms, answer.tokens_per_s) == (1000.0, prefill_ms, rate)
    assert one.warning is None
    assert (answer.warning or "").startswith("vLLM keeps no statistics") == (how == "untimed")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("how", "seconds", "kind", "said"),
    [
        ("dies", 60.0, EngineError, "got the end of its process: 'vLLM says a lot on stdout'"),
        ("hangs", 2.0, EngineSlow, "an answer within 2 s, got none"),
    ],
)
def test_what_goes_wrong_is_one_line_and_leaves_no_process(python, how, seconds, kind, said):
    start = time.monotonic()
    with pytest.raises(kind, match=said), opened(python(how), LOADS, seconds) as engine:
        engine.complete([5, 6], 1)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("engine", "loads", "kind", "said"),
    [
        (None, LOADS, EngineError, r"got \"ModuleNotFoundError: No module named 'vllm'\"; try it in that"),
        (None, Loads("random:tiny", "float32", 64), EngineError, "weights on a disk, got random:tiny"),
        (
            "vllm:{}/broken",
            LOADS,
            EngineError,
            "a Python that starts, got 'No such file or directory'; try it in a shell",
        ),
        ("vllm:/no/python", LOADS, ConfigError, "which is no program; give its path"),
    ],
)
def test_what_cannot_be_loaded(python, tmp_path, engine, loads, kind, said):
    here = python()
    (tmp_path / "vllm.py").unlink()
    (tmp_path / "broken").write_text("#!/no/interpreter\n")
    (tmp_path / "broken").chmod(0o755)
    engine = engine and engine.format(tmp_path)
    with pytest.raises(kind, match=said), opened(engine or here, loads, 60.0):
        pass
