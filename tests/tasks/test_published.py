from dataclasses import replace
from statistics import fmean

import pytest

from pcbench.config import bundled
from pcbench.registry import SCORERS, load, task_tables
from pcbench.suites.files import read_suite
from pcbench.tasks.benchmarks import BENCHMARKS
from pcbench.tasks.published import RunFacts, _tables, published_score

QASPER = RunFacts(
    model="meta-llama/Meta-Llama-3-8B-Instruct",
    tasks=["longbench/qasper"],
    context_tokens=7628,
    prompts="official",
    scorer="longbench-official+indel",
    whole=True,
    longest_tokens=7510,
    cut=True,
)


def test_published_score_is_of_the_same_model_and_settings():
    found = published_score(QASPER)
    assert found.score == 44.93
    assert found.line(0.2975).startswith("29.75, published 44.93 (stored predictions of viridisGreen/LongBench")
    assert (found.differs(0.2975), found.differs(0.46)) == (True, False)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "meta-llama/Meta-Llama-3-8B"},
        {"tasks": ["longbench/vcsum"]},
        {"tasks": ["gsm8k"]},
        {"prompts": "pcbench/1"},
        {"scorer": "longbench-official+difflib"},
        {"whole": False},
        {"longest_tokens": 31600},
        # cut shorter than it was when the score was published
        {"longest_tokens": 3500},
    ],
)
def test_another_setting_has_no_published_score(change):
    assert published_score(replace(QASPER, **change)) is None


def test_what_was_never_cut_needs_no_limit():
    assert published_score(replace(QASPER, longest_tokens=3500, cut=False)).score == 44.93


@pytest.mark.parametrize(
    ("model", "limit", "average"),
    [
        ("llama2-7b-chat-4k", 3500, 33.36),
        ("llama-3-8b-instruct", 7500, 45.18),
        ("mistral-7b-instruct-v0.2", 31500, 42.51),
    ],
)
def test_the_average_is_that_of_the_papers_sixteen(model, limit, average):
    tasks = [f"longbench/{name}" for name in BENCHMARKS["longbench"].averaged]
    found = published_score(replace(QASPER, model=model, tasks=tasks, longest_tokens=limit))
    assert found.score == pytest.approx(average, abs=0.01)


def test_ruler_is_published_as_an_average_by_length():
    tasks = [task for task in task_tables() if task.startswith("ruler/")]
    facts = replace(QASPER, model="Qwen/Qwen3-8B", tasks=tasks, scorer="ruler", context_tokens=16384)
    assert published_score(facts).score == 91.8
    assert published_score(replace(facts, context_tokens=5000)) is None
    assert published_score(replace(facts, tasks=tasks[:12])) is None


def test_every_row_names_known_tasks_and_scorers():
    for benchmark, rows in _tables().items():
        for row in rows:
            assert load(SCORERS, "scorer", row["scorer"], "published").id == row["scorer"]
            assert {f"{benchmark}/{name}" for name in row.get("scores", ())} <= set(task_tables())
            assert row["models"] == [name.lower() for name in row["models"]]
            assert 0 <= fmean(row.get("scores", row.get("averages")).values()) <= 100


@pytest.mark.parametrize("name", ["longbench", "infinitebench"])
def test_suites_average_over_what_papers_do(name):
    assert (bundled("suites") / f"{name}.toml").is_file()
    settings = read_suite(name, "cpu", None, ()).settings()
    assert tuple(settings["average"]) == BENCHMARKS[name].averaged
    assert set(settings["tasks"]) == set(BENCHMARKS[name].datasets)
