import pytest

from pcbench.tasks.scorers.metrics.code import (
    by_difflib,
    by_indel,
    by_indel_unrounded,
    first_code_line,
    first_written_line,
    line_similarity,
    stripped_code_line,
)


@pytest.mark.parametrize(
    ("prediction", "official", "written", "stripped"),
    [
        ("x = 1\ny", "x = 1", "x = 1", "x = 1"),
        ("\n\n  x = 1", "  x = 1", "  x = 1", "x = 1"),
        ("   \n x", "   ", " x", "x"),
        ("```python\n# comment\nx // y\n  z", "  z", "  z", "  z"),
        ("# only", "", "", ""),
        ("", "", "", ""),
    ],
)
def test_the_scored_line_is_the_one_each_project_takes(prediction, official, written, stripped):
    assert first_code_line(prediction) == official
    assert first_written_line(prediction) == written
    assert stripped_code_line(prediction) == stripped


def test_by_indel_rounds_two_lengths_less_edits_to_a_percent():
    # 3 + 4 characters, one insertion: 6 / 7
    assert by_indel("abc", "abcd") == 0.86
    assert by_indel_unrounded("abc", "abcd") == pytest.approx(6 / 7)
    assert by_indel("", "abc") == 0.0
    assert by_indel("abc", "abc") == 1.0


def test_by_difflib_takes_the_first_longest_block_even_where_less_remains():
    # "q" leaves nothing around it, "bcd" would have been worth three
    assert (by_difflib("qabcd", "bxcxdxq"), by_indel("qabcd", "bxcxdxq")) == (0.17, 0.5)
    assert by_difflib("return result", "return results") == by_indel("return result", "return results") == 0.96


def test_line_similarity_scores_the_chosen_line():
    assert line_similarity(by_indel)("# why\nabc\nabcd", "abcd") == 0.86
