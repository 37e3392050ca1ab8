"""F1 of the words, or characters, that prediction and answer share."""

import re
import string
from collections import Counter
from collections.abc import Sequence

__all__ = ["article_first_f1", "character_f1", "chinese_word_f1", "normal_words", "word_f1"]

ARTICLES = re.compile(r"\b(a|an|the)\b")
ASCII_MARKS = str.maketrans("", "", string.punctuation)
# what LongBench and InfiniteBench take for punctuation in Chinese; some CJK marks are not in it
CHINESE_MARKS = ASCII_MARKS | str.maketrans(
    "",
    "",
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏.",
)


def word_f1(prediction: str, answer: str) -> float:
    """F1 of the multisets of lower-case words, without punctuation and then without articles.

    Source: qa_f1 of LongBench, arXiv:2308.14508, and En.QA of InfiniteBench, arXiv:2402.13718; SQuAD's measure.
    """
    return _f1(normal_words(prediction), normal_words(answer))


def normal_words(text: str, *, lower: bool = True) -> list[str]:
    """Words without punctuation and then without articles, in lower case unless that counts."""
    return ARTICLES.sub(" ", (text.lower() if lower else text).translate(ASCII_MARKS)).split()


def article_first_f1(prediction: str, answer: str) -> float:
    """The same with articles removed before punctuation, so that "the-end" loses its article.

    Source: InfiniteBench in lm-evaluation-harness.
    """
    return _f1(*(ARTICLES.sub(" ", text.lower()).translate(ASCII_MARKS).split() for text in (prediction, answer)))


def chinese_word_f1(prediction: str, answer: str) -> float:
    """F1 of the words that jieba finds, each without its punctuation, empty ones dropped.

    Source: qa_f1_zh of LongBench.
    """
    from pcbench.tasks.scorers.metrics.chinese import words

    return _f1(*([bare for word in words(text) if (bare := _squeezed(word))] for text in (prediction, answer)))


def character_f1(prediction: str, answer: str) -> float:
    """F1 of the characters that are neither space nor punctuation.

    Source: Zh.QA of InfiniteBench.
    """
    return _f1(_squeezed(prediction), _squeezed(answer))


def _squeezed(text: str) -> str:
    return "".join(text.lower().translate(CHINESE_MARKS).split())


def _f1(prediction: Sequence[str], answer: Sequence[str]) -> float:
    shared = (Counter(prediction) & Counter(answer)).total()
    if shared == 0:
        return 0.0
    precision, recall = shared / len(prediction), shared / len(answer)
    return 2 * precision * recall / (precision + recall)
