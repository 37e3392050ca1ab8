"""Knorm: keeps the keys with the smallest norm, because queries tend to attend to these."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pcbench.methods.eviction import Eviction, KeysConfig, Policy
from pcbench.methods.eviction.budgets import Uniform, WholeFirst
from pcbench.methods.eviction.scores import KeyNorm
from pcbench.types import ModelSpec

__all__ = ["Knorm"]


class Knorm(Eviction):
    """Keys with the smallest L2 norm, arXiv:2406.11430."""

    class Config(KeysConfig):
        """Knorm's parameters.

        Args:
            whole_layers: first layers that keep every token, beside the budgets of the others.
            preset: released: KVCache-Factory's (commit c97f9d7): the first two layers whole, nothing protected.
        """

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"released": {"whole_layers": 2, "recent": 0, "sink": 0}}

        whole_layers: Annotated[int, Field(ge=0)] = 0
        preset: Literal["released"] | None = None

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            budgets = WholeFirst(self.whole_layers, Uniform()) if self.whole_layers else Uniform()
            return Policy(KeyNorm(), budgets, 1, self.sink, self.recent)
