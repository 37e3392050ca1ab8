"""The answer to which method to use as columns of text, on a page and on a terminal."""

from pcbench.report.reading.results import Results
from pcbench.report.verdict.choosing.candidates import Setting
from pcbench.report.verdict.choosing.words import loss_text, reading, score_text, speed_text

__all__ = ["columns"]


def columns(results: Results, setting: Setting) -> dict[str, list[str]]:
    """Title → a cell a candidate; of scores, losses and speeds only those that one of them has."""
    every, limit = setting.candidates, setting.asked.memory
    found = {"method": [c.label for c in every], "memory": [c.need.words(limit) for c in every]}
    if any(c.accuracy for c in every) or not any(c.loss for c in every):
        found["score, 95 %"] = [score_text(c) for c in every]
        found["accuracy"] = [reading(setting, c) for c in every]
    if any(c.loss for c in every):
        found["loss minus full's, nats"] = [loss_text(c) for c in every]
    if any(c.speed for c in every):
        found["prefill against full"] = [speed_text(results, c) for c in every]
    return found
