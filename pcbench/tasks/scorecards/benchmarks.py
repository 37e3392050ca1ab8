"""What published benchmarks consist of: their datasets, the average of papers, the lines of stored predictions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pcbench.json_text import kind_of

__all__ = ["BENCHMARKS", "BUCKETS", "Benchmark", "bucket"]

# words at which LongBench-E's buckets begin
BUCKETS = {"0-4k": 0, "4-8k": 4000, "8k+": 8000}


def bucket(words: int) -> str:
    """The bucket of LongBench-E in which a record of so many words is scored."""
    return max((name for name, start in BUCKETS.items() if start <= words), key=lambda name: BUCKETS[name])


def _no_groups(line: Mapping[str, Any]) -> tuple[str, ...]:
    return ()


def _by_length(line: Mapping[str, Any]) -> tuple[str, ...]:
    words = line.get("length")
    if isinstance(words, bool) or not isinstance(words, int) or words < 0:
        raise ValueError(f"length: the record's number of words, got {kind_of(words)}")
    return (bucket(words),)


def _by_difficulty_and_length(line: Mapping[str, Any]) -> tuple[str, ...]:
    for key, names in V2_GROUPS.items():
        if line.get(key) not in names:
            raise ValueError(f"{key}: {' or '.join(names)}, got {line.get(key)!r:.40}")
    return tuple(str(line[key]) for key in V2_GROUPS)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A set of datasets that is scored as one.

    Args:
        scorer: the id of the default scorer.
        datasets: all of them, in the order of the paper.
        averaged: those whose plain mean is the average.
        prefix: what stands before the dataset in a file's name.
        predictions, answers, ids: the keys of a line, the first that is there counts.
        tasks: what stands before the dataset in the names of our own tasks.
        group_names: groups of records that have scores of their own.
        groups: a line → those that it is in; ValueError where it does not say.
    """

    scorer: str
    datasets: tuple[str, ...]
    averaged: tuple[str, ...]
    prefix: str
    predictions: tuple[str, ...]
    answers: tuple[str, ...]
    ids: tuple[str, ...] = ("_id", "id")
    tasks: tuple[str, ...]
    group_names: tuple[str, ...] = ()
    groups: Callable[[Mapping[str, Any]], tuple[str, ...]] = _no_groups

    @property
    def single(self) -> bool:
        """Whether one file of any name is the whole benchmark."""
        return len(self.datasets) == 1

    def file(self, dataset: str) -> str:
        """The name of a dataset's file of predictions."""
        return f"{self.prefix}{dataset}.jsonl"


# English and code; the plain mean over these is the average of papers
LONGBENCH = (
    *("narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique", "gov_report", "qmsum"),
    *("multi_news", "trec", "triviaqa", "samsum", "passage_count", "passage_retrieval_en", "lcc", "repobench-p"),
)
LONGBENCH_E = tuple(name for name in LONGBENCH if name not in ("narrativeqa", "musique", "qmsum"))
LONGBENCH_CHINESE = ("multifieldqa_zh", "dureader", "vcsum", "lsht", "passage_retrieval_zh")
INFINITEBENCH = (
    *("passkey", "number_string", "kv_retrieval", "longbook_sum_eng", "longbook_qa_eng", "longbook_choice_eng"),
    *("longdialogue_qa_eng", "longbook_qa_chn", "code_debug", "code_run", "math_calc", "math_find"),
)

RULER = (
    *("niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2", "niah_multikey_3"),
    *("niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe", "qa_1", "qa_2"),
)
V2_GROUPS = {"difficulty": ("easy", "hard"), "length": ("short", "medium", "long")}

BENCHMARKS = {
    "longbench": Benchmark(
        scorer="longbench-official+indel",
        datasets=LONGBENCH + LONGBENCH_CHINESE,
        averaged=LONGBENCH,
        prefix="",
        predictions=("pred", "prediction"),
        answers=("answers",),
        tasks=("longbench/",),
    ),
    "longbench-e": Benchmark(
        scorer="longbench-official+indel",
        datasets=LONGBENCH_E,
        averaged=LONGBENCH_E,
        prefix="",
        predictions=("pred", "prediction"),
        answers=("answers",),
        tasks=("longbench-e/",),
        group_names=tuple(BUCKETS),
        groups=_by_length,
    ),
    "longbench-v2": Benchmark(
        scorer="longbench-v2",
        datasets=("longbench-v2",),
        averaged=("longbench-v2",),
        prefix="",
        # the whole answer; `pred` is the letter that was read from it
        predictions=("response",),
        answers=("answer",),
        tasks=("",),
        group_names=tuple(name for names in V2_GROUPS.values() for name in names),
        groups=_by_difficulty_and_length,
    ),
    "infinitebench": Benchmark(
        scorer="infinitebench-2024-06",
        datasets=INFINITEBENCH,
        averaged=INFINITEBENCH,
        prefix="preds_",
        predictions=("prediction", "pred"),
        answers=("ground_truth", "label"),
        tasks=("infinitebench/",),
    ),
    "ruler": Benchmark(
        scorer="ruler",
        datasets=RULER,
        averaged=RULER,
        prefix="",
        predictions=("pred", "prediction"),
        answers=("outputs", "answers"),
        ids=("index", "_id", "id"),
        tasks=("ruler/", "ruler_"),
    ),
    "gsm8k": Benchmark(
        scorer="gsm8k",
        datasets=("gsm8k",),
        averaged=("gsm8k",),
        prefix="",
        predictions=("pred", "prediction", "response"),
        answers=("answers", "answer", "target"),
        tasks=("",),
    ),
}
