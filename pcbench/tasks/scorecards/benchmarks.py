"""What published benchmarks consist of: their datasets, the average of papers, the layout of stored predictions."""

from dataclasses import dataclass

__all__ = ["BENCHMARKS", "Benchmark"]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A set of datasets that is scored as one.

    Args:
        scorer: the id of the default scorer.
        datasets: all of them, in the order of the paper.
        averaged: those whose plain mean is the average.
        prefix: what stands before the dataset in a file's name.
        predictions, answers: the keys of a line, the first that is there counts.
    """

    scorer: str
    datasets: tuple[str, ...]
    averaged: tuple[str, ...]
    prefix: str
    predictions: tuple[str, ...]
    answers: tuple[str, ...]

    def file(self, dataset: str) -> str:
        """The name of a dataset's file of predictions."""
        return f"{self.prefix}{dataset}.jsonl"


# English and code; the plain mean over these is the average of papers
LONGBENCH = (
    *("narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique", "gov_report", "qmsum"),
    *("multi_news", "trec", "triviaqa", "samsum", "passage_count", "passage_retrieval_en", "lcc", "repobench-p"),
)
LONGBENCH_CHINESE = ("multifieldqa_zh", "dureader", "vcsum", "lsht", "passage_retrieval_zh")
INFINITEBENCH = (
    *("passkey", "number_string", "kv_retrieval", "longbook_sum_eng", "longbook_qa_eng", "longbook_choice_eng"),
    *("longdialogue_qa_eng", "longbook_qa_chn", "code_debug", "code_run", "math_calc", "math_find"),
)

BENCHMARKS = {
    "longbench": Benchmark(
        scorer="longbench-official+indel",
        datasets=LONGBENCH + LONGBENCH_CHINESE,
        averaged=LONGBENCH,
        prefix="",
        predictions=("pred", "prediction"),
        answers=("answers",),
    ),
    "infinitebench": Benchmark(
        scorer="infinitebench-2024-06",
        datasets=INFINITEBENCH,
        averaged=INFINITEBENCH,
        prefix="preds_",
        predictions=("prediction", "pred"),
        answers=("ground_truth", "label"),
    ),
}
