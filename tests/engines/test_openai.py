import socket
import time

import pytest
from made_server import serving

from pcbench.engines import Loads, opened, parsed
from pcbench.errors import ConfigError, EngineError, EngineSlow

LOADS = Loads("nothing", "float32", 16)
IDS = [5, 6, 7, 8]


def complete(url, count=3, timeout_s=20.0, **more):
    with opened(f"openai:{url}", LOADS, timeout_s) as engine:
        return engine.complete(IDS, count, **more)


def test_a_server_gets_the_ids_and_is_told_to_cache_nothing():
    with serving(lambda ids, count: ids[:count]) as (url, asked):
        found = complete(url, fixed_length=True)
    assert (found.tokens, found.text, found.cached_tokens) == ([5, 6, 7], "<5><6><7>", 0)
    assert found.first_ms > 0
    assert found.tokens_per_s > 0
    (body,) = asked
    assert (body["prompt"], body["max_tokens"], body["model"], body["temperature"]) == (IDS, 3, "made", 0)
    assert (body["repetition_penalty"], body["repeat_penalty"], body["presence_penalty"]) == (1, 1, 0)
    assert (body["cache_prompt"], body["ignore_eos"], body["key"]) == (False, True, None)


def test_no_two_requests_share_a_salt(monkeypatch):
    monkeypatch.setenv("PCBENCH_ENGINE_KEY", "secret")
    with serving() as (url, asked):
        for _ in range(2):
            assert complete(url + "/v1/", 1).tokens_per_s is None
    assert len({body["cache_salt"] for body in asked}) == 2
    assert {body["key"] for body in asked} == {"Bearer secret"}


def test_what_a_server_does_not_tell_is_not_made_up():
    with serving(how="text") as (url, _):
        found = complete(url)
    assert (found.tokens, found.text, found.prefill_ms) == (None, "<7><7><7>", None)
    assert found.tokens_per_s > 0
    with serving(how="silent") as (url, _):
        assert complete(url).cached_tokens is None


def test_an_answer_may_be_nothing_but_its_end():
    with serving(lambda ids, count: []) as (url, _):
        found = complete(url)
    assert (found.tokens, found.text, found.tokens_per_s) == ([], "", None)
    assert found.first_ms > 0
    with serving(lambda ids, count: [], how="empty") as (url, _), pytest.raises(EngineError, match="got an empty"):
        complete(url)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cut", "an answer to its end, got one that was cut off"),
        ("broken", "JSON, got "),
        ("refuses", "an answer, got 400: 'the prompt is longer than the context"),
        ("longer", "a prompt of 4 tokens read as it was sent, got 5 tokens read"),
    ],
)
def test_what_goes_wrong_is_one_line(how, said):
    with serving(how=how) as (url, _), pytest.raises(EngineError, match=r"^http://127\.0\.0\.1:") as raised:
        complete(url)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not isinstance(raised.value, EngineSlow)


@pytest.mark.parametrize("how", ["slow", "trickles"])
def test_an_answer_that_takes_too_long_is_left(how):
    start = time.monotonic()
    with serving(how=how) as (url, _), pytest.raises(EngineSlow, match=r"an answer within 0\.3 s, got none"):
        complete(url, timeout_s=0.3)
    assert time.monotonic() - start < 2.5


def test_a_key_that_no_header_can_hold_is_not_told(monkeypatch):
    monkeypatch.setenv("PCBENCH_ENGINE_KEY", "sec\nret")
    with serving() as (url, _), pytest.raises(EngineError, match="printable ASCII letters, got others") as raised:
        complete(url)
    assert "sec" not in str(raised.value)


def test_a_host_that_is_none():
    with pytest.raises(EngineError, match="a server that answers, got "):
        complete("http://a..b:80")


def test_a_server_that_is_not_there():
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    with pytest.raises(EngineError, match=r"a server that answers, got Connection refused; start it"):
        complete(f"http://127.0.0.1:{port}")


def test_a_model_that_a_server_does_not_have():
    with serving(models=("one", "two")) as (url, asked):
        with pytest.raises(EngineError, match=r"one of its models, 'one, two', got #three; add #MODEL to the URL"):
            complete(f"{url}#three")
        with pytest.raises(EngineError, match="got none named"):
            complete(url)
        complete(f"{url}#two", 1)
    assert [body["model"] for body in asked] == ["two"]
    with serving(models=()) as (url, _), pytest.raises(EngineError, match=r"a list of models at /v1/models, got"):
        complete(url)


@pytest.mark.parametrize(
    "engine",
    [
        "", "openai", "openai:", "openai:127.0.0.1:8000", "other:http://a", "openai:http://", "openai:http://a:99999",
        "openai:http://user:word@a", "openai:http://a?b=c", "openai:ftp://a",
    ],
)  # fmt: skip
def test_what_names_no_engine_is_refused(engine):
    with pytest.raises(ConfigError, match=r"^--engine: openai:"):
        parsed(engine)
