import pytest

from pcbench.tasks import load_task, score


@pytest.mark.parametrize(
    ("prediction", "value"),
    [
        ("The correct answer is (C).", 1.0),
        ("So: **The correct answer is (C)**", 1.0),
        ("The correct answer is C", 1.0),
        # brackets come before
        ("The correct answer is A, no: The correct answer is (C)", 1.0),
        ("The correct answer is (A). The correct answer is (C)", 0.0),
        ("the correct answer is (C)", 0.0),
        ("C", 0.0),
        ("", 0.0),
    ],
)
def test_choice_named_takes_the_first_letter_in_brackets(prediction, value):
    assert score(load_task("longbench-v2", "test"), prediction, ["C"]) == value
