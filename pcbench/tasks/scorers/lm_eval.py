"""lm-evaluation-harness, where its rules are known to differ from the official; explains other people's numbers."""

from pcbench.tasks.scorers import Metric, Scorer, best
from pcbench.tasks.scorers.infinitebench import AUGUST
from pcbench.tasks.scorers.metrics.code import by_indel, first_written_line, line_similarity
from pcbench.tasks.scorers.metrics.overlap import article_first_f1

__all__ = ["v6"]

CODE = Metric(name="edit similarity", function=best(line_similarity(by_indel, first_written_line)))

v6 = Scorer(
    id="lm-eval-v6",
    version=1,
    summary="what lm-eval does otherwise: LongBench v6 skips blank code lines, InfiniteBench drops articles first",
    source="github.com/EleutherAI/lm-evaluation-harness (MIT), lm_eval/tasks/longbench and infinitebench",
    metrics={
        "lcc": CODE,
        "repobench-p": CODE,
        "longbook_qa_eng": Metric(name="word F1", function=best(article_first_f1)),
    }
    | AUGUST,
)
