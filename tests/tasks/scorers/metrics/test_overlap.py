import pytest

from pcbench.tasks.scorers.metrics.overlap import article_first_f1, character_f1, chinese_word_f1, word_f1


@pytest.mark.parametrize(
    ("prediction", "answer", "value"),
    [
        ("The cat, sat!", "a CAT sat", 1.0),
        ("cat cat dog", "cat dog dog", 2 / 3),
        ("it is Paris", "Paris", 0.5),
        ("", "Paris", 0.0),
        ("the", "a", 0.0),
    ],
)
def test_word_f1_counts_shared_words(prediction, answer, value):
    assert word_f1(prediction, answer) == pytest.approx(value)


def test_word_f1_removes_punctuation_before_articles_and_article_first_f1_after():
    assert word_f1("the-end", "end") == 0.0
    assert article_first_f1("the-end", "end") == 1.0


def test_character_f1_ignores_spaces_and_chinese_punctuation():
    assert character_f1("田 归农，商老太。", "田归农商老太") == 1.0
    assert character_f1("田归", "田农") == 0.5
    # this mark is not in the published list
    assert character_f1("《田", "田") == pytest.approx(2 / 3)


def test_chinese_word_f1_compares_words_not_characters():
    pytest.importorskip("jieba", reason="the extra zh is not installed")
    assert chinese_word_f1("我来到北京清华大学。", "北京清华大学") == pytest.approx(2 * 2 / (4 + 2))
    assert chinese_word_f1("北京", "京北") == 0.0
