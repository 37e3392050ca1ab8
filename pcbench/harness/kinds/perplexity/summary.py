"""Samples of windows → records: mean losses with intervals, and differences to full attention window by window."""

import math
from collections.abc import Sequence
from typing import Any

from pcbench.differences import loss_difference
from pcbench.harness.kinds.accuracy.outcomes import Outcome
from pcbench.harness.kinds.accuracy.summary import add_sizes
from pcbench.harness.kinds.methods.cells import Prepared
from pcbench.harness.kinds.methods.summary import add_kept, add_parity
from pcbench.statistics import mean_interval, perplexity
from pcbench.types import ModelSpec, Record, Sample

__all__ = ["summarise_losses"]


def summarise_losses(
    cells: Sequence[Prepared], outcomes: Sequence[Outcome], spec: ModelSpec, shared: dict[str, Any], repro: str
) -> list[Record]:
    """One record a cell, made from its samples alone.

    Args:
        cells: of one group.
        outcomes: theirs.
        spec: their model.
        shared: fields all records of the run carry: run, gpu, arch, torch, commit, …
        repro: the command that measures this group again.
    """
    stock = next((o for p, o in zip(cells, outcomes, strict=True) if p.cell.is_full and o.status == "ok"), None)
    records = []
    for prepared, outcome in zip(cells, outcomes, strict=True):
        record = Record.of(
            prepared.cell,
            task=prepared.cell.task,
            status=outcome.status,
            reason=outcome.reason,
            repro_command=repro,
            **outcome.attention,
            **outcome.weights,
            **shared,
        )
        add_parity(record, outcome.parity)
        if outcome.status == "ok" and not outcome.samples:
            record.warnings.append("the text has no window of this shard")
        elif outcome.status == "ok":
            add_sizes(record, outcome)
            add_kept(record, outcome.samples)
            _add_losses(record, outcome.samples, spec)
            record.scored_tokens = prepared.task.scored
            if stock is not None and outcome is not stock:
                _add_difference(record, outcome.samples, stock.samples)
        records.append(record)
    return records


def _add_losses(record: Record, samples: Sequence[Sample], spec: ModelSpec) -> None:
    found = [s.nll for s in samples if s.nll is not None]
    record.nll, record.nll_ci_low, record.nll_ci_high = mean_interval(found)
    record.perplexity, record.n_samples = perplexity(record.nll), len(found)
    curves = [s.nll_by_position for s in samples if s.nll_by_position is not None]
    if curves:
        record.nll_by_position = [sum(part) / len(part) for part in zip(*curves, strict=True)]
    guess = math.log(spec.vocab)
    if not spec.trained:
        record.warnings.append("random weights: their loss says nothing of a model")
    elif record.nll > guess:
        said = f"{record.nll:.1f} nats a token, a guess among all {spec.vocab} ids loses {guess:.1f}"
        record.warnings.append(f"{said}: is the text one that the model can read?")


def _add_difference(record: Record, samples: Sequence[Sample], baseline: Sequence[Sample]) -> None:
    """Of the windows that both have read."""
    theirs = {s.id: s.nll for s in baseline}
    pairs = [(s.nll, nll) for s in samples if s.nll is not None and (nll := theirs.get(s.id)) is not None]
    if pairs:
        found = loss_difference(*zip(*pairs, strict=True))
        record.nll_vs_full, record.nll_vs_full_ci_low, record.nll_vs_full_ci_high = found[:3]
        record.nll_vs_full_pairs = found.n
