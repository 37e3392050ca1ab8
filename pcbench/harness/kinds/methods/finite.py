"""Answers whose numbers are not finite are errors, never results."""

from collections.abc import Callable

from pcbench.errors import NotFinite
from pcbench.harness.kinds.methods.decoding import Answered
from pcbench.models.finite import first_not_finite
from pcbench.models.runner import HFRunner
from pcbench.types import Prefilled

__all__ = ["not_finite", "require_finite"]


def require_finite(
    where: str, runner: HFRunner, prefilled: Prefilled, answered: Answered, again: Callable[[], object]
) -> None:
    """Looks at logits and chunk scores after the clock has stopped; waits for the device.

    Args:
        where: the cell, the head of the message.
        runner: the model; it may have other ops than the answer was made with.
        prefilled, answered: what came out.
        again: makes the same once more, to find the layer.

    Raises:
        NotFinite: a logit of a step is NaN or infinite, or a chunk was ranked whose score is NaN.
    """
    step = answered.first_not_finite()
    if step is not None:
        raise not_finite(where, f"the logits of token {step + 1} of the answer", runner, again)
    # a chunk without a scored row has +infinity
    lost = [] if prefilled.chunk_scores is None else prefilled.chunk_scores.isnan().nonzero().tolist()
    if lost:
        raise not_finite(where, f"the score of chunk {lost[0][0]}", runner, again)


def not_finite(where: str, what: str, runner: HFRunner, again: Callable[[], object]) -> NotFinite:
    """The error for numbers that are not finite, with the first layer whose output is not.

    Args:
        where: the head of the message; what: the numbers.
        runner: the model.
        again: the same once more.
    """
    part = first_not_finite(runner.model, runner.spec.layers, again)
    first = f"first in the output of {part}" if part else "after finite outputs of every layer"
    return NotFinite(
        f"{where}: finite numbers, got NaN or infinity in {what}, {first}; look at the model's weights and its dtype"
    )
