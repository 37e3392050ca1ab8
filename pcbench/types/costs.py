"""What prefills take, from formulas."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcbench.types.protocols import ModelSpec

__all__ = ["Cost", "causal_flops", "linear_flops"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a prefill takes: operations and tokens whose keys and values are stored."""

    flops: float
    kv_tokens: int


def linear_flops(spec: "ModelSpec", tokens: int) -> float:
    """Operations of a forward outside its attention scores: 2 a parameter of the layers and token, and one row of the
    head; an embedding is looked up, not multiplied."""
    return 2.0 * (spec.parameters - spec.outer_parameters) * tokens + 2.0 * spec.hidden * spec.vocab


def causal_flops(spec: "ModelSpec", tokens: int) -> float:
    """Operations of one causal forward: the linear ones, and 4·H·D a layer and pair of token and earlier token."""
    return linear_flops(spec, tokens) + 2.0 * spec.layers * spec.heads * spec.head_dim * tokens**2
