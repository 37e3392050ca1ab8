import pytest

from pcbench.tasks.scorers.metrics.found import (
    any_name_found,
    first_digits_equal,
    first_name_among_words,
    first_number_equals,
    last_word_equals,
    right_start,
    right_start_but_first,
    word_found,
)


@pytest.mark.parametrize(
    ("function", "prediction", "answers", "value"),
    [
        (first_digits_equal, "The pass key is 09887.", ["09887"], 1.0),
        (first_digits_equal, "9887", ["09887"], 0.0),
        (first_digits_equal, "1 or 2", ["2"], 0.0),
        (first_digits_equal, "none", ["2"], 0.0),
        (word_found, '{"k": "5e6b-90"}', ["5e6b-90"], 1.0),
        (word_found, "x5e6b-90", ["5e6b-90"], 0.0),
        (first_name_among_words, "It is ace.", ["ACE", "ROTHSTEIN"], 1.0),
        (first_name_among_words, "Rothstein", ["ACE", "ROTHSTEIN"], 0.0),
        (first_name_among_words, "PLACE", ["ACE"], 0.0),
        (any_name_found, "Rothstein", ["ACE", "ROTHSTEIN"], 1.0),
        (any_name_found, "a place", ["ACE"], 1.0),
        (any_name_found, "a place", ["", "ANNA"], 0.0),
        (first_number_equals, "88, then 3", [88], 1.0),
        (first_number_equals, "8", [88], 0.0),
        (first_number_equals, "45.5.", [45.5], 1.0),
        (first_number_equals, "", [45.5], 0.0),
        (last_word_equals, "The return value is: `-14`.", [-14], 1.0),
        (last_word_equals, "func_3(4) + 11", [15], 0.0),
        (last_word_equals, "", [15], 0.0),
        (right_start, "1, 2, 4", [1, 2, 3, 4], 0.5),
        (right_start, "", [1, 2], 0.0),
        (right_start, "1 2 3", [1, 2], 1.0),
        (right_start, "01 0", [1, 0], 1.0),
        (right_start, "9" * 9999, [1], 0.0),
        (right_start_but_first, "7 1 2", [1, 2, 3, 4], 0.5),
    ],
)
def test_an_answer_counts_as_infinitebench_says(function, prediction, answers, value):
    assert function(prediction, answers) == value
