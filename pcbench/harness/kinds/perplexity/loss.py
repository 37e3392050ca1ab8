"""The loss of a window's tokens, as a method reads them."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pcbench.harness.kinds.methods.lane import sizes
from pcbench.harness.kinds.methods.prompts import device_prompt
from pcbench.models.runner import HFRunner
from pcbench.tasks.windows import Window
from pcbench.types import no_stages

__all__ = ["BUCKETS", "Losses", "in_buckets", "losses_of", "token_losses"]

# parts of a window that have a mean loss each
BUCKETS = 32
# of logits in float32 that are there at once
LOGIT_BYTES = 1 << 27


@dataclass(frozen=True)
class Losses:
    """What a method loses on a window, in nats.

    Args:
        scored: [T] float64 on the CPU, of each scored token.
        whole: [N − 1] float64, of every token but the first; None where nobody asks or something is left out.
        sizes: of what its prefill kept, as fields of a sample.
        warnings: of the prefill.
    """

    scored: Tensor
    whole: Tensor | None
    sizes: dict[str, Any]
    warnings: list[str]


def losses_of(method: Any, runner: HFRunner, window: Window) -> Losses:
    """Prefills what stands before the scored tokens, then reads these in one forward on top of what was kept.

    Args:
        method: one that `Reads`; with `rows` the whole window is read once more where it asks for that.
        runner: whose head predicts.
        window: what is read.
    """
    prompt = device_prompt(window, runner.device)
    tokens = torch.tensor(window.scored, dtype=torch.int64, device=runner.device)
    prefilled = method.prefill(prompt, no_stages)
    held, warnings = sizes(prefilled), list(prefilled.warnings)
    scored = [_losses(prefilled.logits, tokens[:1])]
    if len(tokens) > 1:
        scored.append(token_losses(runner, method.read(prefilled, tokens[:-1]), tokens[1:]))
    # its keys are no longer needed
    del prefilled
    whole = None
    if window.whole and hasattr(method, "rows"):
        everything = replace(prompt, query=torch.cat([prompt.query, tokens]), new_tokens=0)
        ids = torch.cat([everything.prefix, everything.context, everything.query])
        rows = method.rows(everything)
        whole = None if rows is None else token_losses(runner, rows[:-1], ids[1:])
    return Losses(torch.cat(scored), whole, held, warnings)


def token_losses(runner: HFRunner, hidden: Tensor, targets: Tensor) -> Tensor:
    """−log p of each target.

    Args:
        runner: whose head makes logits, of few rows at a time.
        hidden: [T, E] rows that predict.
        targets: [T] int64.

    Returns:
        [T] float64 on the CPU.
    """
    rows = max(1, LOGIT_BYTES // (4 * runner.spec.vocab))
    parts = zip(hidden.split(rows), targets.split(rows), strict=True)
    return torch.cat([_losses(runner.logits(some), wanted) for some, wanted in parts])


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none").double().cpu()


def in_buckets(whole: Tensor) -> list[float]:
    """Mean loss of each of as equal parts of a window as there can be, in their order.

    Args:
        whole: [N − 1], of every token but the first, which stands in no part.
    """
    parts = min(BUCKETS, len(whole))
    return [float(part.mean()) for part in whole.tensor_split(parts)]
