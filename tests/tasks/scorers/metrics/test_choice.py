import pytest

from pcbench.tasks.scorers.metrics.choice import (
    debug_choice,
    debug_choice_last_letter,
    option_choice,
    option_choice_last_letter,
)

DEBUG = ["load_file", "B"]
OPTION = ["Snowfield", "C"]


@pytest.mark.parametrize(
    ("prediction", "june", "august"),
    [
        ("B. load_file", 1.0, 1.0),
        ("\n B: it", 1.0, 1.0),
        ("B", 0.0, 1.0),
        ("load_file", 0.0, 1.0),
        ("The correct option is: B", 1.0, 1.0),
        ("The answer is:\n`load_file`", 1.0, 1.0),
        ("The answer is: Option B", 1.0, 1.0),
        ("The answer is: C. not B", 0.0, 1.0),
        ("The answer is:", 0.0, 0.0),
        ("A or C", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_debug_choices_by_the_rules_of_june_and_august(prediction, june, august):
    assert debug_choice(prediction, DEBUG) == june
    assert debug_choice_last_letter(prediction, DEBUG) == august


@pytest.mark.parametrize(
    ("prediction", "june", "august"),
    [
        ("C", 1.0, 1.0),
        (" C. Snowfield", 1.0, 1.0),
        ("Snowfield", 1.0, 1.0),
        ("Dear reader, it is C", 0.0, 1.0),
        ("my answer is C, surely", 1.0, 1.0),
        ("my answer is Snowfield", 1.0, 1.0),
        ("my answer is D, then C\nD", 0.0, 1.0),
        ("it would be C or D", 1.0, 1.0),
        ("it would be D or C", 0.0, 1.0),
        ("answer is", 0.0, 0.0),
        ("none", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_option_choices_by_the_rules_of_june_and_august(prediction, june, august):
    assert option_choice(prediction, OPTION) == june
    assert option_choice_last_letter(prediction, OPTION) == august
