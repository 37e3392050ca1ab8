import sys

import pytest

from pcbench.tasks.scorers.metrics.rouge import rouge_l, rouge_l_chinese, rouge_lsum


def test_rouge_l_counts_a_repeated_word_once():
    assert rouge_l("the the the cat", "the cat") == pytest.approx(1.0, abs=1e-6)


def test_rouge_l_unites_sentences_that_end_at_full_stops():
    assert rouge_l("one two. three four.", "three four. one two.") == pytest.approx(1.0, abs=1e-6)
    assert rouge_l("one two, three four", "three four, one two") < 0.8


@pytest.mark.parametrize("text", ["", ".", " . ", "..."])
def test_rouge_l_of_text_without_words_is_zero(text):
    assert rouge_l(text, "some words") == 0.0
    assert rouge_l("some words", text) == 0.0


def deeper(frames, function):
    return deeper(frames - 1, function) if frames else function()


def longest_scored():
    """The most words without a full stop before the score drops to 0."""
    return next(n for n in range(900, 1100) if rouge_l(" ".join(f"w{i}" for i in range(n + 1)), "w0") == 0.0)


def test_rouge_l_gives_up_at_the_same_length_however_deep_the_caller_is():
    assert longest_scored() == deeper(200, longest_scored)


def test_rouge_l_leaves_the_recursion_limit_as_it_was():
    before = sys.getrecursionlimit()
    rouge_l("a b", "a")
    assert sys.getrecursionlimit() == before


def test_rouge_l_chinese_compares_the_words_jieba_finds():
    pytest.importorskip("jieba", reason="the extra zh is not installed")
    assert rouge_l_chinese("北京清华大学", "北京清华大学") == pytest.approx(1.0, abs=1e-6)
    assert rouge_l("北京清华大学在北京", "北京清华大学") == 0.0
    assert rouge_l_chinese("北京清华大学在北京", "北京清华大学") > 0.5


def test_rouge_lsum_takes_lines_for_sentences_and_the_first_answer():
    assert rouge_lsum("one two\nthree four", ["three four\none two"]) == 1.0
    assert rouge_lsum("three four one two", ["one two three four"]) == 0.5
    assert rouge_lsum("one", ["two", "one"]) == 0.0
    # no stemmer
    assert rouge_lsum("running", ["run"]) == 0.0
