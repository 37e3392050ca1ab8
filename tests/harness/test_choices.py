"""What accuracy suites choose about prompts: in a cell's key, in its prompts, and in its record."""

import time
from dataclasses import replace

import pytest
from harness_suite import ACCURACY
from tasks.made_records import longbench_record, write
from tiny import letters_tokenizer, make_runner

from pcbench.errors import ConfigError
from pcbench.harness.kinds.accuracy.cells import AnswerCells
from pcbench.harness.kinds.methods.cells import Rules
from pcbench.harness.kinds.methods.prompts import prompt_choice
from pcbench.harness.runner import Options, plan, run
from pcbench.models import model_spec
from pcbench.suites import load_suite
from pcbench.types.measured import IDENTITY, digest

NAME = "longbench/qasper"
TEMPLATES = {
    "LongBench/config/dataset2prompt.json": '{"qasper": "Read:\\n{context}\\nAsked: {input}"}',
    "parallelcomp-config/dataset2prompt_context.json": '{"qasper": "Split:\\n{context}"}',
    "parallelcomp-config/dataset2prompt_quesiton.json": '{"qasper": "\\nSplit question: {input}"}',
    "parallelcomp-config/dataset2prompt_raw.json": '{"qasper": "Whole:\\n{context}\\nQuestion: {input}"}',
    "parallelcomp-config/dataset2maxlen.json": '{"qasper": 4}',
}
# the datasets the released runner has prompts for
SPLIT = {
    *("narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique", "gov_report", "qmsum"),
    *("multi_news", "trec", "triviaqa", "samsum", "passage_count", "passage_retrieval_en", "lcc", "repobench-p"),
    *("passkey", "number_string", "kv_retrieval", "longbook_sum_eng", "longbook_qa_eng", "longbook_qa_chn"),
    *("longbook_choice_eng", "longdialogue_qa_eng", "math_calc", "math_find", "code_run", "code_debug"),
}


@pytest.fixture
def options(tmp_path, monkeypatch):
    """A suite of two records of Qasper."""
    data = tmp_path / "data"
    monkeypatch.setenv("PCBENCH_DATA", str(data))
    write(data, NAME, [longbench_record(), longbench_record() | {"input": "And then?"}])
    for path, text in TEMPLATES.items():
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_text(text)
    path = tmp_path / "small.toml"
    path.write_text(ACCURACY)
    here = (f"suite.tasks=[{NAME}]", "suite.average=[passkey]", "suite.context_tokens=[600]")
    return lambda *sets, **more: Options(
        **(dict(suite=str(path), device="cpu", out=tmp_path / "run", sets=[*here, *sets]) | more)
    )


def keys(options):
    return [p.cell.key for p in plan(options).cells]


def test_cells_without_choices_keep_their_keys(options):
    cell = plan(options()).cells[0].cell
    assert cell.key == digest({name: getattr(cell, name) for name in IDENTITY})
    parts = [cell.suite, cell.kind, cell.model, cell.dtype, cell.workload, cell.context_tokens, cell.seed]
    assert cell.group == digest(parts)


OTHER_CHATS = ["suite.chat_date=2025-01-02", "suite.chat_arguments={enable_thinking = false}", "suite.thinking=keep"]


@pytest.mark.parametrize("choice", ["suite.templates=pcbench", "suite.chat=always", *OTHER_CHATS])
def test_other_prompts_are_other_cells_of_another_group(options, choice):
    plain, chosen = plan(options()).cells, plan(options(choice)).cells
    assert {p.cell.key for p in plain}.isdisjoint(p.cell.key for p in chosen)
    assert {p.cell.group for p in plain}.isdisjoint(p.cell.group for p in chosen)


def test_a_limit_of_prompt_tokens_is_of_the_methods_it_names(options):
    plain, chosen = keys(options()), keys(options("suite.prompt_tokens={full = 200}"))
    assert [a == b for a, b in zip(plain, chosen, strict=True)] == [False, True]
    assert len({p.cell.group for p in plan(options("suite.prompt_tokens={full = 200}")).cells}) == 1


def test_templates_and_chat_reach_the_prompts_and_the_records(options, console):
    folder, records = run(options("suite.templates=parallelcomp", "suite.chat=never"), console)
    assert {(r.status, r.method, r.prompts, r.prompt_tokens) for r in records} == {
        ("ok", "full", "parallelcomp-raw, chat template never", None),
        ("ok", "parallel_comp", "parallelcomp, chat template never", None),
    }
    # each answers the records in its own words, so the two are paired by record
    ours = [r for r in records if r.method == "parallel_comp"]
    assert all(r.score_vs_full is not None for r in ours if r.score is not None)
    assert folder.manifest["settings"]["templates"] == "parallelcomp"
    other, official = run(options(out=folder.path.with_name("official")), console)
    assert {r.prompts for r in official} == {"official"}
    ours, theirs = ({s.prompt_sha256 for s in found.samples.read()} for found in (folder, other))
    assert ours.isdisjoint(theirs)


CHAT = """{{ '<' + strftime_now('%d %b %Y') + '>' }}{{ messages[0].content }}\
{% if enable_thinking | default(true) %}{{ '<think>' }}{% endif %}"""


@pytest.fixture
def chatty(tmp_path):
    """A model whose chat template knows a date and opens a thought."""
    path = tmp_path / "model"
    make_runner(trained_tokens=1024).model.save_pretrained(path)
    letters_tokenizer().save_pretrained(path)
    (path / "chat_template.jinja").write_text(CHAT)
    return ("suite.chat=always", f"suite.model={path}")


@pytest.fixture
def far_apart(monkeypatch):
    """Two places where it is never the same day."""
    yield lambda place: (monkeypatch.setenv("TZ", place), time.tzset())
    monkeypatch.delenv("TZ", raising=False)
    time.tzset()


def test_prompts_are_the_same_on_another_day(options, console, chatty, far_apart):
    far_apart("Etc/GMT-14")
    first, _ = run(options(*chatty), console)
    before = first.samples.path.read_bytes()
    far_apart("Etc/GMT+11")
    second, _ = run(options(*chatty, out=first.path.with_name("second")), console)
    assert [s.prompt_sha256 for s in second.samples.read()] == [s.prompt_sha256 for s in first.samples.read()]
    run(options(*chatty, resume=True), console)
    assert first.samples.path.read_bytes() == before
    assert first.manifest["settings"]["chat_date"] == "2024-07-26"
    third, records = run(options(*chatty, "suite.chat_date=2025-01-02", out=first.path.with_name("third")), console)
    ours, theirs = ({s.prompt_sha256 for s in found.samples.read()} for found in (first, third))
    assert ours.isdisjoint(theirs)
    assert {r.prompts for r in records} == {"official, chat template always, date 2025-01-02"}


def test_a_thought_is_not_scored_and_the_rule_stands_in_sample_and_record(options, console, chatty):
    folder, records = run(options(*chatty), console)
    # its prompts end inside a thought, and its random letters never end it
    assert {(r.status, r.answer_rule, r.score) for r in records} == {("ok", "after-think@1", 0.0)}
    assert "after-think@1: 2 of 2 answers had their thought cut before scoring" in records[0].warnings
    samples = folder.samples.read()
    assert {s.answer_rule for s in samples} == {"after-think@1"}
    assert all(s.prediction for s in samples)
    for i, choice in enumerate(("suite.thinking=keep", "suite.chat_arguments={enable_thinking = false}")):
        found, records = run(options(*chatty, choice, out=folder.path.with_name(str(i))), console)
        assert {r.answer_rule for r in records} == {s.answer_rule for s in found.samples.read()} == {None}
    assert records[0].prompts == "official, chat template always, enable_thinking = false"


def test_a_chat_template_that_fails_ends_its_cells_in_one_line(options, console, chatty, tmp_path):
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ raise_exception('no users') }}")
    _, records = run(options(*chatty), console)
    assert {r.status for r in records} == {"unsupported"}
    assert records[0].reason.endswith('got TemplateError: no users; turn the template off by suite.chat = "never"')


def test_methods_with_their_own_limit_read_their_own_prompts(options, console):
    folder, (full, ours) = run(options("suite.prompt_tokens={full = 200}"), console)
    assert (full.prompt_tokens, ours.prompt_tokens) == (200, None)
    read = {cell: [s for s in folder.samples.read() if s.cell == cell] for cell in (full.cell, ours.cell)}
    # the halves' decoded text may have a few bytes more than were kept
    assert all(190 < s.tokens < 210 < s.tokens_before for s in read[full.cell])
    assert all(400 < s.tokens <= 600 for s in read[ours.cell])
    assert [s.id for s in read[full.cell]] == [s.id for s in read[ours.cell]]


@pytest.mark.parametrize(
    "choice", ["suite.templates=pcbench", "suite.chat=always", "suite.prompt_tokens={full = 99}", *OTHER_CHATS]
)
def test_a_run_goes_on_with_the_prompts_it_began_with(options, console, choice):
    run(options(), console)
    with pytest.raises(ConfigError, match=f"--resume: {choice.partition('=')[0]} = .*, with which .* began, got"):
        run(options(choice, resume=True), console)


def test_generated_prompts_have_nothing_to_choose(options, console, tmp_path):
    sets = ("suite.tasks=[passkey]", "suite.prompt_tokens={full = 99}")
    _, records = run(options(*sets), console)
    assert {r.status for r in records} == {"unsupported"}
    assert "passkey: prompt_tokens of tasks with files, got 99; leave it out" in records[0].reason
    sets = ("suite.tasks=[passkey]", "suite.chat_arguments={a = 1}")
    _, records = run(options(*sets, out=tmp_path / "other"), console)
    assert "passkey: chat_arguments of tasks with files, got {'a': 1}; leave them out" in records[0].reason


@pytest.mark.parametrize("suite", ["longbench", "infinitebench"])
@pytest.mark.parametrize(
    ("model", "limit", "chunk"),
    [
        ("meta-llama/Llama-2-7b-chat-hf", 3950, 3600),
        ("meta-llama/Meta-Llama-3-8B-Instruct", 7950, 7600),
        ("meta-llama/Llama-3.1-8B-Instruct", 7000, 6000),
        ("Qwen/Qwen2.5-7B-Instruct", 8000, 6000),
        ("mistralai/Mistral-7B-Instruct-v0.2", 3950, 3950),
    ],
)
def test_the_released_preset_is_the_released_runners_whole_setting(suite, model, limit, chunk):
    loaded = load_suite(suite, "cpu", preset="released", model=model)
    cells = AnswerCells(loaded, replace(model_spec("random:llama-3-8b"), name=model), "cpu", None, Rules()).all()
    assert min(p.cell.context_tokens for p in cells) >= 131072
    assert {p.cell.task.rpartition("/")[2] for p in cells} <= SPLIT
    full = {prompt_choice(p.cell) for p in cells if p.cell.method == "full"}
    assert full == {("parallelcomp-raw", limit)}
    assert {prompt_choice(p.cell) for p in cells if p.cell.method == "parallel_comp"} == {("parallelcomp", None)}
    assert {(p.cell.templates, p.cell.chat) for p in cells} == {("parallelcomp", "never")}
    ours = [p for p in cells if p.cell.method == "parallel_comp"]
    assert {p.config.preset for p in ours} == {f"official-{suite}"}
    assert max(p.config.chunk_tokens for p in ours) == chunk
    assert {p.config.split for p in ours} == {"chars"}


def test_accuracy_smoke_plans_its_cells():
    cells = [p.cell for p in plan(Options(suite="accuracy_smoke", device="cpu")).cells]
    assert {c.task for c in cells} == {"passkey", "kv_retrieval"}
    assert {(c.prompts, c.timed, c.kind) for c in cells} == {(10, False, "accuracy")}
    for task in ("passkey", "kv_retrieval"):
        at = {n: [c for c in cells if c.task == task and c.context_tokens == n] for n in (4096, 16384)}
        assert [(c.method, c.backend) for c in at[4096]] == [("full", "torch")] + [("parallel_comp", "cpu")] * 3
        plain, calibrated, evicting = (c.method_config for c in at[4096][1:])
        assert (plain["calibration"], plain["evict"]) == ([], None)
        assert {rule["zone"] for rule in calibrated["calibration"]} == {"recent", "middle", "sink"}
        assert (evicting["calibration"], evicting["evict"]["capacity"]) == ([], 1024)
        assert [(c.method, c.method_config) for c in at[16384]] == [("parallel_comp", plain)]
    assert len(cells) == 10
    quick = plan(Options(suite="accuracy_smoke", device="cpu", preset="quick")).cells
    assert {p.cell.prompts for p in quick} == {c.prompts for c in cells} == {10}
    assert [p.cell.key for p in quick] == [c.key for c in cells if (c.task, c.context_tokens) == ("passkey", 4096)]
