"""Serving engines in a run, by a stand-in for a server; a real one is in test_llama_server.py."""

from dataclasses import replace

import pytest
from made_server import greedy, serving

from pcbench.engines.openai import OpenAI
from pcbench.errors import ConfigError
from pcbench.harness.kinds.methods import session
from pcbench.harness.kinds.methods.peak import Peak
from pcbench.harness.runner import plan, run
from pcbench.records import read_run
from pcbench.report import build
from pcbench.types import Record

SERVED = [name for name in Record.__dataclass_fields__ if name.startswith("served_")]
TIMES = [name for name in Record.__dataclass_fields__ if name.startswith(("ms_", "speedup_", "decode_", "score"))]


@pytest.fixture(autouse=True)
def no_peaks(monkeypatch):
    """Peak memory is measured elsewhere."""
    monkeypatch.setattr(session, "peak_of", lambda prepared: Peak())


@pytest.fixture
def changed(options):
    """Options of full attention at one length beside a server."""

    def options_of(url, *sets, **changes):
        sets = [f'suite.engines=["openai:{url}"]', "suite.context_tokens=[300]", 'suite.workloads=["passkey"]', *sets]
        return options(**(dict(sets=sets, methods=["full"]) | changes))

    return options_of


@pytest.fixture
def measured(changed, console):
    return lambda *args, **changes: run(changed(*args, **changes), console)


def test_an_engine_has_times_of_its_own_and_no_ratio(measured, monkeypatch):
    of_model, real = {"quantization": {"scheme": "made"}, "compile_ms": 1.0}, session.summarise
    monkeypatch.setattr(session, "summarise", lambda a, b, shared, d: real(a, b, shared | of_model, d))
    with serving(greedy()) as (url, asked):
        folder, (full, served, ours) = measured(
            url, "cell.parallel_comp.backend=cpu", methods=["full", "parallel_comp"]
        )
    assert [r.status for r in (full, served, ours)] == ["ok"] * 3
    assert (served.engine, served.served_model, served.backend) == (f"openai:{url}", "made (tests)", "openai")
    assert len(served.served_samples_ms) == full.repeats == 2
    assert served.served_ms_p50 > 0
    assert served.served_tokens_per_s > 0
    assert served.served_prefill_ms is None
    assert {name: getattr(served, name) for name in TIMES} == dict.fromkeys(TIMES)
    assert [getattr(r, name) for r in (full, ours) for name in SERVED] == [None] * 2 * len(SERVED)
    assert ours.baseline.startswith("full/torch/")
    # what is loaded here is not what it computes with
    assert (served.weights_bytes, served.quantization, served.compile_ms) == (None, None, None)
    assert [(r.weights_bytes > 0, r.quantization, r.compile_ms) for r in (full, ours)] == [
        (True, {"scheme": "made"}, 1.0)
    ] * 2
    # a warm-up, and of each prompt a token and an answer
    assert [body["max_tokens"] for body in asked] == [1, 1, 4, 1, 4]
    assert len({tuple(body["prompt"]) for body in asked}) == 3
    samples = read_run(folder.path)[2]
    of_engine = [s for s in samples if s.cell == served.cell]
    assert [s.served_ms for s in of_engine] == served.served_samples_ms
    assert [s.prompt_sha256 for s in of_engine] == [s.prompt_sha256 for s in samples if s.cell == full.cell]
    page = build([folder.path]).read_text(encoding="utf-8")
    assert page.count('id="serving"') == 1
    assert build([folder.path / "report.html"], folder.path / "again.html").read_text(encoding="utf-8") == page


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        ("cut", "error", "an answer to its end, got one that was cut off"),
        ("slow", "timeout", "an answer within 1 s, got none; raise suite.engine_timeout_s"),
        ("cached", "error", "all 2 prompts were partly in the engine's cache; turn prefix caching off"),
    ],
)
def test_what_goes_wrong_with_an_engine_loses_nothing_else(measured, how, status, said):
    with serving(greedy(), how=how) as (url, _):
        folder, (full, served) = measured(url, "suite.engine_timeout_s=1.0")
    assert (full.status, served.status) == ("ok", status)
    assert full.ms_p50 > 0
    assert said in served.reason
    assert "\n" not in served.reason
    assert [getattr(served, name) for name in SERVED] == [None] * len(SERVED)
    kept = [s for s in read_run(folder.path)[2] if s.cell == served.cell]
    assert [s.cached_tokens for s in kept] == ([5, 5] if how == "cached" else [])
    assert 'id="serving"' in build([folder.path]).read_text(encoding="utf-8")


def test_an_engine_that_is_not_there_is_asked_again_by_resume(changed, console):
    with serving(greedy()) as (url, _):
        pass
    _, (before, served) = run(changed(url), console)
    assert (before.status, served.status) == ("ok", "error")
    assert "a server that answers, got Connection refused" in served.reason
    with serving(greedy(), port=int(url.rpartition(":")[2])) as (again, asked):
        assert again == url
        _, (full, served) = run(changed(url, resume=True), console)
    assert (full.status, served.status) == ("ok", "ok")
    # its whole group is measured again
    assert full.samples_ms != before.samples_ms
    assert [body["max_tokens"] for body in asked] == [1, 1, 4, 1, 4]


def test_white_space_is_nothing_that_a_text_could_be_held_against(measured, monkeypatch):
    class Blank:
        """The tokenizer, by which every answer is white space."""

        def __init__(self, real):
            self.real = real

        def __getattr__(self, name):
            return getattr(self.real, name)

        def decode(self, tokens):
            return " \n"

    real = session.Read.of
    monkeypatch.setattr(session.Read, "of", lambda runner: replace(real(runner), tokenizer=Blank(runner.tokenizer)))
    with serving(greedy(), how="text") as (url, _):
        _, (full, served) = measured(url)
    assert (full.status, served.status) == ("ok", "unsupported")
    assert "full attention answers nothing that an engine's answers could be held against" in served.reason


def test_other_weights_have_no_times(measured):
    model = greedy()

    def wrong(ids, count):
        tokens = model(ids, count)
        return [*tokens[:2], *(token ^ 1 for token in tokens[2:])]

    with serving(wrong) as (url, _):
        _, (full, served) = measured(url)
    assert (full.status, served.status) == ("ok", "parity_failed")
    assert "2 of 2 answers are not those of full attention, first that of passkey" in served.reason
    assert "number 3 is token " in served.reason
    assert [getattr(served, name) for name in SERVED] == [None] * len(SERVED)


def test_throughput_asks_for_answers_of_a_fixed_length(measured, suite_file, monkeypatch):
    real = OpenAI.complete
    monkeypatch.setattr(OpenAI, "complete", lambda *a, **more: replace(real(*a, **more), warning="its times are made"))
    suite_file.write_text(suite_file.read_text().replace('"prefill"', '"throughput"'))
    with serving(greedy()) as (url, asked):
        _, (_, served) = measured(url)
    assert served.status == "ok"
    assert [body["ignore_eos"] for body in asked] == [False, False, True, False, True]
    assert served.warnings.count("its times are made") == 1


def test_engines_need_full_attention_and_times(changed, suite_file):
    url = "http://127.0.0.1:1"
    with pytest.raises(
        ConfigError, match=r"a timed cell of full attention, whose answers .* got none; add --method full"
    ):
        plan(changed(url, methods=["parallel_comp"]))
    with pytest.raises(ConfigError, match=r"suite\.engines: openai:"):
        plan(changed("nowhere"))
    suite_file.write_text(suite_file.read_text().replace('"prefill"', '"memory"'))
    with pytest.raises(ConfigError, match=r"suite\.engines: a suite of kind prefill or throughput, got memory"):
        plan(changed(url))


def test_engines_are_part_of_what_a_cell_is(changed):
    one, other = (plan(changed(f"http://127.0.0.1:{port}")) for port in (1, 2))
    assert len({prepared.cell.key for planned in (one, other) for prepared in planned.cells}) == 3
    assert len({prepared.cell.group for planned in (one, other) for prepared in planned.cells}) == 1
    assert one.cells[1].cell.name == "Full attention by openai:http://127.0.0.1:1 on passkey, 300 tokens"
    assert [row.why_not for row in one.kind.estimates()] == [None, None]
    assert "suite.engines=" in one.repro(one.cells[1])
