"""kvpress, where its rules are known to differ from the official ones; explains other people's numbers."""

from pcbench.tasks.scorers import Metric, Scorer, best
from pcbench.tasks.scorers.infinitebench import AUGUST
from pcbench.tasks.scorers.metrics.code import by_indel, line_similarity, stripped_code_line

__all__ = ["kvpress"]

CODE = Metric(name="edit similarity", function=best(line_similarity(by_indel, stripped_code_line)))

kvpress = Scorer(
    id="kvpress",
    version=1,
    summary="what kvpress does otherwise: code predictions lose their indentation; InfiniteBench as of August 2024",
    source="github.com/NVIDIA/kvpress (Apache-2.0), evaluation/benchmarks",
    metrics={"lcc": CODE, "repobench-p": CODE} | AUGUST,
)
