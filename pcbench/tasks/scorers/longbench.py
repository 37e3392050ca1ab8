"""LongBench v1 as its authors score it; the ids differ in the edit similarity of code."""

from pcbench.tasks.scorers import Metric, Scorer, best
from pcbench.tasks.scorers.metrics.code import Ratio, by_difflib, by_indel, by_indel_unrounded, line_similarity
from pcbench.tasks.scorers.metrics.labels import class_share, first_line, number_share, right_numbers
from pcbench.tasks.scorers.metrics.overlap import chinese_word_f1, word_f1
from pcbench.tasks.scorers.metrics.rouge import rouge_l, rouge_l_chinese

__all__ = ["difflib", "indel", "indel_unrounded"]

SOURCE = "LongBench, arXiv:2308.14508; rules of github.com/THUDM/LongBench (MIT), LongBench/metrics.py and eval.py"

WORDS = Metric(name="word F1", function=best(word_f1))
WORDS_ZH = Metric(name="word F1", function=best(chinese_word_f1), package="jieba", extra="zh")
ROUGE = Metric(name="ROUGE-L", function=best(rouge_l))
ROUGE_ZH = Metric(name="ROUGE-L", function=best(rouge_l_chinese), package="jieba", extra="zh")


def _numbers(label: str = "") -> Metric:
    return Metric(name="number share", function=best(number_share(label)), reads=right_numbers(label))


CLASSES = Metric(name="class share", function=first_line(class_share), by_class=True)

PROSE = {
    "narrativeqa": WORDS,
    "qasper": WORDS,
    "multifieldqa_en": WORDS,
    "multifieldqa_zh": WORDS_ZH,
    "hotpotqa": WORDS,
    "2wikimqa": WORDS,
    "musique": WORDS,
    "dureader": ROUGE_ZH,
    "gov_report": ROUGE,
    "qmsum": ROUGE,
    "multi_news": ROUGE,
    "vcsum": ROUGE_ZH,
    "trec": CLASSES,
    "triviaqa": Metric(name="word F1", function=first_line(best(word_f1))),
    "samsum": Metric(name="ROUGE-L", function=first_line(best(rouge_l))),
    "lsht": CLASSES,
    "passage_count": _numbers(),
    "passage_retrieval_en": _numbers("Paragraph "),
    "passage_retrieval_zh": _numbers("段落"),
}


def _scorer(name: str, ratio: Ratio, summary: str) -> Scorer:
    code = Metric(name="edit similarity", function=best(line_similarity(ratio)))
    return Scorer(
        id=f"longbench-official+{name}",
        version=1,
        summary=summary,
        source=SOURCE,
        metrics=PROSE | {"lcc": code, "repobench-p": code},
    )


indel = _scorer("indel", by_indel, "LongBench as published; code by insertions and deletions (rapidfuzz)")
difflib = _scorer("difflib", by_difflib, "LongBench as published; code by difflib, the original without its extra")
indel_unrounded = _scorer(
    "indel-unrounded", by_indel_unrounded, "the same as +indel without rounding to a whole percent"
)
