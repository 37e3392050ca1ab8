import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcbench.registry import SCORERS, load, scorer_summaries
from pcbench.tasks.scorecards.benchmarks import BENCHMARKS
from pcbench.tasks.scorers import EVERY, Metric

ALL = {name: load(SCORERS, "scorer", name, "test") for name in SCORERS}
PIECES = ["12", "7", "aB", "B", "the ", "Paragraph 12", "#### ", "answer is: ", " ", ".", "\n", "中", "#", ""]


def test_every_scorer_has_its_registered_id_a_version_and_a_source():
    assert {name: scorer.id for name, scorer in ALL.items()} == {name: name for name in SCORERS}
    assert all(scorer.version >= 1 and scorer.source and scorer.summary for scorer in ALL.values())
    assert scorer_summaries().keys() == SCORERS.keys()


def test_default_scorers_have_a_rule_for_every_dataset():
    for benchmark in BENCHMARKS.values():
        assert all(ALL[benchmark.scorer].metric(dataset) for dataset in benchmark.datasets)
        assert set(benchmark.averaged) <= set(benchmark.datasets)


def test_no_scorer_has_a_rule_for_an_unknown_dataset():
    known = {dataset for benchmark in BENCHMARKS.values() for dataset in benchmark.datasets} | {EVERY, "qa_1", "qa_2"}
    known |= {"coursera", "quality", "tpo", "sci_fi"}
    assert {dataset for scorer in ALL.values() for dataset in scorer.metrics} <= known


@settings(max_examples=60, deadline=None)
@given(prediction=st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_every_metric_stays_within_0_and_1_and_gives_nothing_for_nothing(prediction):
    answers = ["12", "B", "Paragraph 12", "段落12"]
    for scorer in ALL.values():
        for dataset, metric in scorer.metrics.items():
            if not metric.why_not():
                assert 0.0 <= metric(prediction, answers, ["B", "aB"]) <= 1.0, (scorer.id, dataset)
                assert metric("", answers, ["B", "aB"]) == 0.0, (scorer.id, dataset)


def test_why_not_names_the_package_and_the_extra():
    absent = Metric(name="x", function=len, package="no_such_package", extra="zh")
    assert absent.why_not() == "needs no_such_package; pip install 'pcbench[zh]'"
    assert Metric(name="x", function=len, package="json", extra="zh").why_not() == ""


def test_best_counts_the_best_answer():
    metric = ALL["longbench-official+indel"].metric("hotpotqa")
    assert metric("Paris", ["Rome", "Paris", "it is Paris"]) == 1.0


@pytest.mark.parametrize(
    ("scorer", "dataset", "answers", "reason"),
    [
        ("longbench-official+indel", "qasper", [], "at least 1 answers, got 0"),
        ("longbench-official+indel", "trec", ["City"], "all_classes: the names of the classes, got none"),
        ("longbench-official+indel", "passage_count", ["many"], "answers that fit number share, got 'many'"),
        ("longbench-official+indel", "passage_retrieval_en", ["7"], "answers that fit number share, got '7'"),
        ("infinitebench-2024-06", "code_debug", ["B"], "at least 2 answers, got 1"),
        ("infinitebench-2024-06", "math_find", ["x", "7"], "answers that fit accuracy, got 'x'"),
        ("infinitebench-2024-06", "code_run", [float("inf")], "answers that fit accuracy, got inf: cannot convert"),
        ("infinitebench-2024-06", "code_run", ["7.5"], "answers that fit accuracy, got '7.5'"),
        ("ruler", "vt", [], "at least 1 answers, got 0"),
        ("gsm8k", "gsm8k", ["#### seven"], "answers that fit exact match, got '#### seven': no number"),
    ],
)
@pytest.mark.parametrize("prediction", ["", "City 7 B"])
def test_a_record_without_what_its_metric_needs_is_refused_whatever_was_predicted(
    scorer, dataset, answers, reason, prediction
):
    metric = ALL[scorer].metric(dataset)
    assert metric.unfit(answers).startswith(reason)
    with pytest.raises(ValueError, match=re.escape(reason)):
        metric(prediction, answers)


def test_one_answer_that_fits_is_enough():
    assert ALL["longbench-official+indel"].metric("passage_count").unfit(["many", "7"]) == ""
    assert ALL["gsm8k"].metric("gsm8k")("so 7", ["many", "#### 7"]) == 1.0
    assert ALL["longbench-official+indel"].metric("trec").unfit(["City"], ["City"]) == ""


def test_triviaqa_is_scored_by_its_first_line_only():
    scorer = ALL["longbench-official+indel"]
    assert scorer.metric("triviaqa")("\nParis\nQuestion: more", ["Paris"]) == 1.0
    assert scorer.metric("hotpotqa")("\nParis\nQuestion: more", ["Paris"]) == 0.5


@pytest.mark.parametrize(
    ("dataset", "prediction", "value"),
    [("niah_multivalue", "The numbers are ABC and 12", 2 / 3), ("qa_1", "only 12", 1.0), ("qa_1", "none", 0.0)],
)
def test_ruler_counts_references_and_one_is_enough_in_questions(dataset, prediction, value):
    assert ALL["ruler"].metric(dataset)(prediction, ["abc", "12", "x9"]) == pytest.approx(value)


def test_ruler_never_finds_an_empty_reference():
    assert ALL["ruler"].metric("vt")("anything", ["", "any"]) == 0.5
    assert ALL["ruler"].metric("qa_2")("anything", [""]) == 0.0


@pytest.mark.parametrize(
    ("prediction", "answer", "value"),
    [
        ("so 6 + 12 = 18", "text <<6+12=18>>18\n#### 18", 1.0),
        ("#### 18 dollars, not 20", "#### 18", 1.0),
        ("The answer is $1,234.00.", "#### 1,234", 1.0),
        ("-3", "#### 3", 0.0),
        ("18 of 20", "#### 18", 0.0),
        ("no number", "#### 18", 0.0),
        ("", "#### 18", 0.0),
        # the official grader takes the first match
        ("#### 18\n\nProblem: another\n#### 20", "#### 18", 1.0),
        ("#### 20\n#### 18", "#### 18", 0.0),
        ("#### Step 1: 5 apples\n#### Result\n#### 18\n", "#### 18", 1.0),
        ("so\n#### **18**", "#### 18", 1.0),
        ("####\n18", "#### 18", 1.0),
        ("####18", "#### 18", 1.0),
        ("#### \u221218", "#### -18", 1.0),
        ("#### -$18", "#### -18", 1.0),
        ("#### $-18", "#### -18", 1.0),
        ("#### -18", "#### 18", 0.0),
        ("#### 18.", "#### 18", 1.0),
        ("#### 18,", "#### 18", 1.0),
        ("#### 18.0", "#### 18", 1.0),
        ("#### .5", "#### 0.5", 1.0),
        ("#### 70 000", "#### 70,000", 1.0),
        ("#### 70\u2009000", "#### 70000", 1.0),
        ("#### 70\u202f000", "#### 70000", 1.0),
        ("#### 1\u2019234'567.50", "#### 1,234,567.5", 1.0),
        ("#### $1,234.50", "#### 1234.5", 1.0),
        ("#### 70 0001", "#### 70", 1.0),
        # in prose a space stands between two numbers
        ("of 3 100", "#### 100", 1.0),
        ("of 3 100", "#### 3100", 0.0),
        ("on day 2\u00a0500", "#### 500", 1.0),
        ("so 70'000", "#### 70000", 1.0),
        # the difference is no sign
        ("it is 20-18", "#### 18", 1.0),
        ("x = -18", "#### -18", 1.0),
    ],
)
def test_gsm8k_compares_final_numbers(prediction, answer, value):
    assert ALL["gsm8k"].metric("gsm8k")(prediction, [answer]) == value


def test_uncomp_takes_labels_apart():
    dia, qa = (ALL["uncomp"].metric(name) for name in ("longdialogue_qa_eng", "longbook_qa_eng"))
    assert (dia("ACE", ["ACE"]), dia("a man", ["ACE"])) == (0.0, 1.0)
    assert (qa("paris", ["paris"]), qa("p", ["paris"])) == (0.0, 1.0)
