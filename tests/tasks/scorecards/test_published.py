from collections import Counter
from dataclasses import replace
from statistics import fmean

import pytest

from pcbench.config import bundled
from pcbench.registry import SCORERS, load, task_tables
from pcbench.suites.files import read_suite
from pcbench.tasks.scorecards.benchmarks import BENCHMARKS
from pcbench.tasks.scorecards.published import RunFacts, TaskRead, _tables, prompt_limit, published_score

QASPER = RunFacts(
    model="meta-llama/Meta-Llama-3-8B-Instruct",
    tasks=[TaskRead("longbench/qasper", 7510, cut=True)],
    context_tokens=7628,
    prompts="official",
    scorer="longbench-official+indel",
    whole=True,
)


def read(*names, tokens=7510, cut=True):
    return [TaskRead(name, tokens, cut) for name in names]


def test_published_score_is_of_the_same_model_and_settings():
    found = published_score(QASPER)
    assert found.score == 44.93
    assert found.line(0.2975).startswith("29.75, published 44.93 (stored predictions of viridisGreen/LongBench")
    assert (found.differs(0.2975), found.differs(0.46)) == (True, False)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "meta-llama/Meta-Llama-3-8B"},
        {"tasks": read("longbench/vcsum")},
        {"tasks": read("gsm8k")},
        {"prompts": "pcbench/1"},
        {"prompts": "official, chat template never"},
        {"scorer": "longbench-official+difflib"},
        {"whole": False},
        {"tasks": read("longbench/qasper", tokens=31600)},
        # cut shorter than it was when the score was published
        {"tasks": read("longbench/qasper", tokens=3500)},
        # one of two tasks was
        {"tasks": read("longbench/qasper") + read("longbench/lcc", tokens=3500)},
    ],
)
def test_another_setting_has_no_published_score(change):
    assert published_score(replace(QASPER, **change)) is None


def test_what_was_never_cut_needs_no_limit():
    short = read("longbench/qasper", tokens=3500, cut=False)
    assert published_score(replace(QASPER, tasks=short)).score == 44.93
    both = published_score(replace(QASPER, tasks=[*short, *read("longbench/lcc")]))
    assert both.score == pytest.approx((44.93 + 64.89) / 2)


def test_a_model_without_a_known_limit_is_held_against_scores_of_whole_prompts():
    name = "infinitebench/passkey"
    facts = replace(QASPER, model="gradientai/Llama-3-8B-Instruct-262k", scorer="infinitebench-2024-06")
    assert published_score(replace(facts, tasks=read(name, tokens=120_000, cut=False))).score == 100
    assert published_score(replace(facts, tasks=read(name, tokens=120_000))) is None


@pytest.mark.parametrize(
    ("model", "task", "limit"),
    [
        ("meta-llama/Llama-2-7b-chat-hf", "longbench/lcc", 3500),
        ("/models/Llama-2-7b-chat-hf/", "longbench/lcc", 3500),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "longbench/lcc", 7500),
        ("mistralai/Mistral-7B-Instruct-v0.2", "longbench/lcc", 31500),
        ("meta-llama/Llama-2-7b-chat-hf", "infinitebench/passkey", None),
        ("meta-llama/Llama-3.1-8B-Instruct", "longbench/lcc", None),
        ("meta-llama/Llama-2-7b-chat-hf", "longbench-e/lcc", 3500),
        ("smollm2-135m", "longbench/lcc", None),
    ],
)
def test_prompt_limit_is_of_the_model_and_the_benchmark(model, task, limit):
    assert prompt_limit(model, task) == limit


@pytest.mark.parametrize(
    ("model", "limit", "average"),
    [
        ("llama2-7b-chat-4k", 3500, 33.36),
        ("llama-3-8b-instruct", 7500, 45.18),
        ("mistral-7b-instruct-v0.2", 31500, 42.51),
    ],
)
def test_the_average_is_that_of_the_papers_sixteen(model, limit, average):
    tasks = read(*(f"longbench/{name}" for name in BENCHMARKS["longbench"].averaged), tokens=limit)
    found = published_score(replace(QASPER, model=model, tasks=tasks))
    assert found.score == pytest.approx(average, abs=0.01)


def test_ruler_is_published_as_an_average_by_length():
    tasks = read(*(task for task in task_tables() if task.startswith("ruler/")), tokens=16200, cut=False)
    facts = replace(QASPER, model="Qwen/Qwen3-8B", tasks=tasks, scorer="ruler", context_tokens=16384)
    assert published_score(facts).score == 91.8
    assert published_score(replace(facts, context_tokens=5000)) is None
    assert published_score(replace(facts, tasks=tasks[:12])) is None
    small = replace(facts, model="LGAI-EXAONE/EXAONE-4.0-1.2B")
    assert published_score(small).score == 88.8
    assert published_score(replace(small, context_tokens=131072)) is None


def test_every_row_names_known_tasks_and_scorers():
    tables = dict(_tables())
    models, released = tables.pop("model"), tables.pop("released")
    assert len({row["name"] for row in released}) == len(released)
    names = Counter(name for model in models for name in model["names"])
    assert set(names.values()) == {1}
    assert all(name == name.lower() for name in names)
    for benchmark, rows in tables.items():
        for row in rows:
            assert row["model"] in {model["name"] for model in models}
            assert load(SCORERS, "scorer", row["scorer"], "published").id == row["scorer"]
            assert {f"{benchmark}/{name}" for name in row.get("scores", ())} <= set(task_tables())
            assert 0 <= fmean(row.get("scores", row.get("averages")).values()) <= 100


@pytest.mark.parametrize("name", ["longbench", "infinitebench"])
def test_suites_average_over_what_papers_do(name):
    assert (bundled("suites") / f"{name}.toml").is_file()
    settings = read_suite(name, "cpu", None, ()).settings()
    assert tuple(settings["average"]) == BENCHMARKS[name].averaged
    assert set(settings["tasks"]) == set(BENCHMARKS[name].datasets)
