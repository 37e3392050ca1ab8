"""UNComp with layer stages: later layers read fewer tokens, so the prefill becomes cheaper too."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from pcbench.config import Count
from pcbench.errors import ConfigError
from pcbench.methods.eviction import Eviction, Policy, Pruning
from pcbench.methods.uncomp import Config as WithoutStages
from pcbench.methods.uncomp.stages import stage_shares, stage_sizes, stage_tokens
from pcbench.methods.uncomp.table import EntropyTable
from pcbench.types import DeviceKind, ModelSpec

__all__ = ["UNCompStage"]

# tokens whose attention decides what is left out, and which stay
LAST = 8
# what the released code takes for the whole of a prompt, by a part of the model's name
WHOLE = {"llama-3": 8192, "": 4096}


class UNCompStage(Eviction):
    """UNComp whose later layers read fewer tokens of the prompt, stage by stage: arXiv:2410.03090.

    Between stages tokens leave that the last queries of the layer before attend to least, over all heads. The paper
    looks at the last query alone; here, as in its code, at the window's, and unlike there the window stays.
    """

    prunes = True

    class Config(WithoutStages):
        """UNComp's parameters and those of stages.

        Args:
            theta: a stage begins where the effective rank of a layer's queries falls by more than this.
            least: of the prompt's tokens what the last stage reads; stages between go down in equal steps.
            whole_tokens, least_tokens: numbers of tokens in place of shares, whatever the prompt's length.
            stages: layers of each stage; resolving fills it from the model's entropy table.
            swap_stages: their sizes from the last to the first, for ablations.

        With preset released: 1536 tokens in the last stage and 4096, of Llama 3 8192, in the first.
        """

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "released": {"sink": 0, "least_tokens": 1536}, "paper": {"sink": 0},
        }  # fmt: skip

        theta: Annotated[float, Field(gt=0)] = 1.0
        least: Annotated[float, Field(gt=0, le=1)] = 0.375
        whole_tokens: Count | None = None
        least_tokens: Count | None = None
        stages: Annotated[list[Count], Field(min_length=1)] | None = None
        swap_stages: bool = False

        @model_validator(mode="after")
        def _both_or_none(self) -> Self:
            if self.preset != "released" and (self.whole_tokens is None) != (self.least_tokens is None):
                raise ValueError("whole_tokens and least_tokens should stand together")
            if self.whole_tokens and self.least_tokens and self.least_tokens > self.whole_tokens:
                raise ValueError("least_tokens should be whole_tokens at most")
            return self

        def resolve(self, spec: ModelSpec, device: DeviceKind, task: str = "") -> Self:
            """As UNComp's; errors too, and where stages are not the model's layers."""
            config = super().resolve(spec, device, task)
            if config.preset == "released" and config.whole_tokens is None:
                name = spec.name.lower()
                whole = next(tokens for part, tokens in WHOLE.items() if part in name)
                config = config.model_copy(update={"whole_tokens": whole})
            return config

        def needs_table(self) -> bool:
            return self.stages is None or super().needs_table()

        def completed(self, spec: ModelSpec, table: EntropyTable | None) -> Self:
            config, stages = super().completed(spec, table), self.stages
            if stages is None:
                assert table is not None
                stages = stage_sizes(table.curve.tolist(), self.theta)
            if sum(stages) != spec.layers:
                raise ConfigError(
                    f"stages: sizes with a sum of {spec.layers}, the layers of {spec.name}, got {stages}; "
                    "leave it out to take the model's own"
                )
            if self.stages is None and self.swap_stages:
                stages = stages[::-1]
            return config.model_copy(update={"stages": stages})

        def layer_tokens(self, spec: ModelSpec, length: int) -> Sequence[int]:
            """Tokens that each layer reads."""
            return self.pruning().plan(length)

        def pruning(self) -> Pruning:
            """What leaves between layers; the config must be resolved."""
            return Pruning(self._targets, max(self.window, LAST), self.sink)

        def _targets(self, length: int) -> Sequence[int]:
            assert self.stages is not None, "resolve() first"
            if self.whole_tokens is None or self.least_tokens is None:
                return stage_shares(self.stages, self.least, length)
            return stage_tokens(self.stages, self.whole_tokens, self.least_tokens)

        def policy(self, spec: ModelSpec, tokens: int) -> Policy:
            return replace(super().policy(spec, tokens), pruning=self.pruning())
