"""L-Eval's rules, one by one."""

import pytest

from pcbench.registry import SCORERS, load
from pcbench.tasks.scorers.metrics.exam import exam_match

LEVAL, SCROLLS = (load(SCORERS, "scorer", name, "test") for name in ("leval", "scrolls"))


@pytest.mark.parametrize(
    ("prediction", "gold", "value"),
    [
        ("BD", "BD", 1.0),
        ("B", "BD", 0.25),
        ("DB", "BD", 0.25),
        ("BC", "BD", 0.0),
        ("BD", "B", 0.0),
        ("", "BD", 0.0),
        ("b", "B", 0.0),
        ("B.", "B", 1.0),
        ("3.0", "3", 1.0),
        ("4", "3", 0.0),
        ("30", "3", 0.0),
        ("It is 30", "3", 1.0),
        ("\n1\nThe Red  Fox ran", "redfox", 1.0),
        ("It ran\nred fox", "red fox", 0.0),
        ("", "red fox", 0.0),
        ("red", "", 0.0),
    ],
)
def test_golds_of_letters_want_equality_others_a_number_or_containment(prediction, gold, value):
    assert exam_match(prediction, gold) == value


@pytest.mark.parametrize(
    ("dataset", "prediction", "answers", "value"),
    [
        # one right option: the first capital of the four, wherever it stands
        ("quality", "The answer is (C) because A is wrong", ["C"], 1.0),
        ("quality", "Because of it: C", ["C"], 0.0),
        ("tpo", " C", ["C. the third"], 1.0),
        ("tpo", "AC", ["C"], 0.0),
        ("tpo", "none", ["C"], 0.0),
        # several: a run at the beginning, heads of options, else the first run
        ("coursera", "DB", ["BD"], 1.0),
        ("coursera", "BD because A", ["BD"], 1.0),
        ("coursera", "B. first D) second", ["BD"], 1.0),
        ("coursera", "B. first D) second\nQuestion: A. x", ["BD"], 1.0),
        ("coursera", "Options B and D .", ["BD"], 1.0),
        ("coursera", " BD", ["BD"], 1.0),
        ("coursera", " BD.", ["BD"], 0.25),
        ("coursera", "B", ["BD"], 0.25),
        ("coursera", "B. first C) second", ["BD"], 0.0),
        ("coursera", "", ["BD"], 0.0),
        ("coursera", "BD", ["many", "B,D of it"], 1.0),
        ("sci_fi", "True.", ["true"], 1.0),
        ("sci_fi", "It is false, not true", ["true"], 0.0),
        ("sci_fi", "I do not know", ["true"], 0.0),
    ],
)
def test_options_and_verdicts_are_found_as_the_authors_find_them(dataset, prediction, answers, value):
    assert LEVAL.metric(dataset)(prediction, answers) == value


def test_an_answer_ends_where_the_model_asks_itself():
    f1, exact, rouge = (SCROLLS.metric(name) for name in ("qasper", "quality", "qmsum"))
    assert f1(" red fox\n\nQuestion: red", ["The red fox"]) == 1.0
    assert f1("\nQuestion: red fox\nQuestion: what", ["blue", "red fox"]) == 1.0
    assert f1("red", ["red fox"]) == pytest.approx(2 / 3)
    assert exact(" The Red fox!\nQuestion:", ["a red fox", "blue"]) == 1.0
    assert exact("red fox ran", ["red fox"]) == 0.0
    assert exact("the", ["a"]) == 0.0
    assert rouge("a b c d\n\nQuestion: e", ["a b c d"]) == pytest.approx(1.0)


def test_rouge_is_a_geometric_mean_of_the_best_of_each_kind():
    # of "a b c" to "a c b" 3 of 3 words, 0 of 2 pairs; to "a b x": 2 words, 1 pair, 2 in order
    metric = SCROLLS.metric("qmsum")
    assert metric("a b c", ["a c b"]) == 0.0
    assert metric("a b c", ["a b x"]) == pytest.approx((2 / 3 * 1 / 2 * 2 / 3) ** (1 / 3))
    assert metric("a b c", ["a c b", "a b x"]) == pytest.approx((1 * 1 / 2 * 2 / 3) ** (1 / 3))
