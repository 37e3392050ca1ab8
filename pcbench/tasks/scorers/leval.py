"""L-Eval's closed-ended tasks: are the options, or the verdict, right?"""

from pcbench.tasks.scorers import Metric, Scorer
from pcbench.tasks.scorers.metrics.exam import options_match, right_options, verdict_match

__all__ = ["leval"]

ONE = Metric(name="exact match", function=options_match(several=False), reads=right_options)

leval = Scorer(
    id="leval",
    version=1,
    summary="L-Eval: 1 for the right options or verdict, 0.25 for a part of several right options",
    source="auto_eval.py and em.py of L-Eval, arXiv:2307.11088, as github.com/HKUNLP/ChunkLlama has them, zero-shot/"
    "Evaluation, but for an empty prediction: 0 here, 0.25 there; L-Eval's own code takes one that names no option for "
    "an A",
    metrics={
        "coursera": Metric(name="exact match", function=options_match(several=True), reads=right_options),
        "quality": ONE,
        "tpo": ONE,
        "sci_fi": Metric(name="exact match", function=verdict_match),
    },
    benchmark="leval",
)
