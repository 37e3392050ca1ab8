"""CHAI: heads that attend alike share the attention of one of them, and its keys are stored once."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator

from pcbench.errors import ConfigError
from pcbench.methods.eviction import Eviction, Policy, PolicyConfig
from pcbench.methods.eviction.budgets import Uniform
from pcbench.methods.eviction.heads import FirstTokens
from pcbench.methods.eviction.scores import Nothing
from pcbench.types import Cost, DeviceKind, ModelSpec, causal_flops

__all__ = ["CHAI"]

# clusters of each layer's 32 heads in the UNComp repository (commit b3e9f7b), by kv-heads: Llama 2 7B, Llama 3 8B
RELEASED = {
    32: [32, 32, 30, 30, 30, 30, 30, 30, 24, 30, 24, 30, 28, 28, 32, 32,
         18, 18, 20, 28, 18, 18, 18, 20, 18, 18, 18, 18, 18, 18, 24, 32],
    8: [32, 32, 30, 30, 32, 32, 32, 32, 24, 30, 24, 30, 28, 28, 32, 32, *[26] * 15, 30],
}  # fmt: skip
LAYERS, HEADS = 32, 32


def _share_or_counts(value: Any) -> Any:
    """What it is given; an error of a union would speak of one of the two alone."""
    if isinstance(value, list):
        is_one = bool(value) and all(type(count) is int and count > 0 for count in value)
    else:
        is_one = type(value) in (int, float) and 0 < value <= 1
    if not is_one:
        raise ValueError("input should be a share above 0 and up to 1, or a list of numbers above 0")
    return value


class CHAI(Eviction):
    """Clusters of heads share the attention weights of one, whose keys alone are stored: CHAI, arXiv:2403.08058.

    Every head keeps its values, and nothing is evicted. The unit is the kv-head, with one query head each as in the
    paper's models a head; with groups, the i-th query head of a group takes the weights of the i-th of another.
    """

    class Config(PolicyConfig):
        """Parameters of CHAI.

        Args:
            clusters: of each layer: a share of the kv-heads, or a list of numbers, which resolving makes of it. The
                default is the mean that the UNComp repository lists for Llama 2 7B, 794 of 1024.
            preset: released: clusters of the UNComp repository, for models as large as its Llama 2 7B and Llama 3 8B
                (of whose 32 heads they are: as large a share of the 8 kv-heads, rounded up); there five tokens see
                each other without a mask, and all keys are stored.
        """

        clusters: Annotated[float | list[int], BeforeValidator(_share_or_counts)] = 0.7754
        preset: Literal["released"] | None = None

        def resolve(self, spec: ModelSpec, device: DeviceKind, task: str = "") -> Self:
            """Clusters of each layer.

            Raises:
                ConfigError: those of the released code for another model, or a list that is not the model's layers.
            """
            if self.preset == "released" and "clusters" not in self.model_fields_set:
                counts = _released(spec)
            elif isinstance(self.clusters, list):
                counts = self.clusters
            else:
                counts = [max(1, round(self.clusters * spec.kv_heads))] * spec.layers
            if len(counts) != spec.layers or max(counts) > spec.kv_heads:
                raise ConfigError(
                    f"chai: clusters: {spec.layers} numbers up to {spec.kv_heads}, one for each layer of {spec.name}, "
                    f"got {counts}; give a share"
                )
            return super().resolve(spec, device, task).model_copy(update={"clusters": counts})

        def cost(self, spec: ModelSpec, tokens: int) -> Cost:
            """A full causal forward; keys of clusters and values of all heads."""
            share = (sum(self._counts()) + spec.layers * spec.kv_heads) / (2 * spec.layers * spec.kv_heads)
            return Cost(flops=causal_flops(spec, tokens), kv_tokens=math.ceil(share * tokens))

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            return Policy(Nothing(), Uniform(), heads=FirstTokens(self._counts(), causal=self.preset is None))

        def _counts(self) -> Sequence[int]:
            assert isinstance(self.clusters, list), "resolve() first"
            return self.clusters


def _released(spec: ModelSpec) -> list[int]:
    counts = RELEASED.get(spec.kv_heads)
    if counts is None or (spec.layers, spec.heads) != (LAYERS, HEADS):
        raise ConfigError(
            f'chai: preset "released" for a model of {LAYERS} layers with {HEADS} heads and 32 or 8 kv-heads, got '
            f"{spec.name} of {spec.layers} layers with {spec.heads} and {spec.kv_heads}; set clusters"
        )
    return [math.ceil(count * spec.kv_heads / HEADS) for count in counts]
