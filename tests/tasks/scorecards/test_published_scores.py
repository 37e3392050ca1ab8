"""Stored predictions of published runs, scored again: the numbers must be the published ones."""

import json
import os
from functools import cache
from pathlib import Path

import pytest

from pcbench.differences import mean_of_means
from pcbench.tasks.scorecards.scorecard import scorecards

GOLDEN = Path(os.environ.get("PCBENCH_GOLDEN") or "nowhere")
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="PCBENCH_GOLDEN names no folder of stored predictions")


@cache
def cards(folder, benchmark):
    return {card["scorer"]: card for card in scorecards(GOLDEN / folder, benchmark, "all")}


@pytest.mark.parametrize("scorer", ["longbench-official+difflib", "longbench-official+indel"])
def test_longbench_equals_the_result_file_that_ships_with_the_predictions(scorer):
    pytest.importorskip("jieba", reason="the extra zh is not installed")
    card = cards("longbench/llama2-7b-chat-4k", "longbench")[scorer]
    published = json.loads((GOLDEN / "longbench/llama2-7b-chat-4k/result.json").read_text())
    assert len(published) == 21
    # the file was written with difflib; figures by indel, kvpress and lm-eval: measured by others on the same lines
    if scorer.endswith("indel"):
        published |= {"lcc": 60.87, "repobench-p": 54.45}
    assert card["datasets"] == published
    assert (card["skipped"], card["skipped_lines"]) == ({}, [])


@pytest.mark.parametrize(("scorer", "lcc"), [("kvpress", 50.62), ("lm-eval-v6", 61.11)])
def test_code_scores_of_other_projects_are_explained(scorer, lcc):
    card = cards("longbench/llama2-7b-chat-4k", "longbench")[scorer]
    assert card["datasets"]["lcc"] == lcc
    assert card["average_over"] == ["lcc", "repobench-p"]


def test_the_average_is_the_published_one_over_sixteen_datasets():
    card = cards("longbench/llama2-7b-chat-4k", "longbench")["longbench-official+difflib"]
    assert (card["average"], len(card["average_over"])) == (33.06, 16)


# the table of InfiniteBench's README of June 2024. Of YaRN's row En.Sum (9.09, here 9.06) and Code.Debug ("< 5 %",
# here 15.48) come from another version of the scorer, and Zh.QA from a file without the broken line.
PUBLISHED = {
    "gpt4": {
        "passkey": 100.0,
        "number_string": 100.0,
        "kv_retrieval": 89.0,
        "longbook_sum_eng": 14.73,
        "longbook_qa_eng": 22.44,
        "longbook_choice_eng": 67.25,
        "longdialogue_qa_eng": 8.5,
        "longbook_qa_chn": 25.96,
        "code_debug": 37.06,
        "code_run": 23.25,
        "math_find": 60.0,
    },
    "kimi": {
        "passkey": 98.14,
        "number_string": 95.42,
        "kv_retrieval": 53.6,
        "longbook_sum_eng": 17.96,
        "longbook_qa_eng": 16.52,
        "longbook_choice_eng": 72.49,
        "longdialogue_qa_eng": 11.5,
        "longbook_qa_chn": 17.93,
        "code_debug": 17.77,
        "math_find": 12.57,
    },
    "yarn-mistral": {
        "passkey": 92.71,
        "number_string": 56.61,
        "longbook_qa_eng": 9.55,
        "longbook_choice_eng": 27.95,
        "longdialogue_qa_eng": 7.5,
        "math_find": 17.14,
    },
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_infinitebench_of_june_equals_the_published_table(model):
    card = cards(f"infinitebench/{model}", "infinitebench")["infinitebench-2024-06"]
    assert {name: card["datasets"][name] for name in PUBLISHED[model]} == PUBLISHED[model]


@pytest.mark.parametrize(
    ("model", "dataset"),
    [
        *[("gpt4", "math_calc"), ("kimi", "code_run"), ("kimi", "math_calc")],
        *[("yarn-mistral", "kv_retrieval"), ("yarn-mistral", "code_run")],
    ],
)
def test_what_the_published_table_calls_below_five_percent_is(model, dataset):
    card = cards(f"infinitebench/{model}", "infinitebench")["infinitebench-2024-06"]
    assert card["datasets"][dataset] < 5


# measured by others on the same lines: GPT-4, Kimi, YaRN
AUGUST = {"code_debug": (52.28, 38.07, 23.6), "longbook_choice_eng": (68.12, 73.36, 28.82)}
AUGUST["longdialogue_qa_eng"] = (8.5, 12.0, 8.5)
UNCOMP = {"longbook_qa_eng": (0.07, 0.28, 0.19), "longdialogue_qa_eng": (0.0, 0.0, 7.0)}


@pytest.mark.parametrize(
    ("scorer", "values"), [("infinitebench-2024-08", AUGUST), ("kvpress", AUGUST), ("uncomp", UNCOMP)]
)
def test_infinitebench_scores_of_later_rules_are_explained(scorer, values):
    for dataset, figures in values.items():
        found = tuple(cards(f"infinitebench/{m}", "infinitebench")[scorer]["datasets"][dataset] for m in PUBLISHED)
        assert found == figures, dataset


def test_math_calc_of_gpt4_needs_its_first_number_dropped():
    found = cards("infinitebench/gpt4", "infinitebench")
    assert found["infinitebench-2024-06"]["datasets"]["math_calc"] == 0.0
    assert found["infinitebench-2024-06+gpt4"]["datasets"]["math_calc"] == 0.01


def test_a_broken_line_of_the_published_files_is_named():
    card = cards("infinitebench/yarn-mistral", "infinitebench")["infinitebench-2024-06"]
    (skipped,) = card["skipped_lines"]
    assert (skipped["file"], skipped["line"]) == ("preds_longbook_qa_chn.jsonl", 189)
    assert card["n"]["longbook_qa_chn"] == 188
    assert card["skipped"] == {"math_calc": "the file is empty"}


def test_files_that_are_no_task_are_named():
    card = cards("infinitebench/gpt4", "infinitebench")["infinitebench-2024-06"]
    assert card["skipped"] == {"code_debug_step_by_step": "not a dataset of infinitebench"}


@pytest.mark.slow
def test_snapkv_differs_from_the_full_cache_by_what_was_measured():
    scored = scorecards(GOLDEN / "adakv-logs/snapkv-1024", "longbench", "all", GOLDEN / "adakv-logs/full")
    by = {card["scorer"]: card for card in scored}
    published = json.loads((GOLDEN / "adakv-logs/snapkv-1024/result.json").read_text())
    assert by["longbench-official+indel"]["datasets"] == published
    # the published average and difference rest on the similarity before rounding
    card = by["longbench-official+indel-unrounded"]
    assert (card["average"], card["difference"]["average"]) == (41.44, -1.07)
    assert by["longbench-official+indel"]["difference"]["average"] == -1.08
    for one in (card, by["longbench-official+indel"]):
        difference = one["difference"]
        assert (difference["ci_low"], difference["ci_high"]) == (-1.49, -0.68)
        # of others, who take the bootstrap for TREC's right or wrong answers, too, where Tango's is wider
        each = {name: difference["datasets"][name] for name in difference["average_over"]}
        intervals = {name: (found["difference"], found["ci_low"], found["ci_high"]) for name, found in each.items()}
        assert intervals["trec"] == (-1.5, -4.6, 0.99)
        _, *bootstrap = mean_of_means([*(intervals | {"trec": (-1.5, -4.0, 0.5)}).values()])
        assert bootstrap == pytest.approx([-1.45, -0.68], abs=0.025)
        assert (difference["skipped"], difference["skipped_lines"]) == ({}, [])
        assert len(difference["average_over"]) == 16
        assert (difference["words"], difference["unpaired"]) == ("lower", {})
