"""The method: full attention with other frequencies."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

from pydantic import Field
from torch import Tensor

from pcbench.config import Count
from pcbench.methods.full import Full
from pcbench.types import DeviceKind, ModelRunner, ModelSpec, Prefilled, Prompt, Stages, beyond_training

__all__ = ["RopeScaling"]


@dataclass
class State:
    """What decoding goes on from: a runner whose frequencies follow the text, and its cache."""

    runner: ModelRunner
    cache: Any


class RopeScaling:
    """Exact attention with rotary frequencies for longer texts than in training, by the model's own code and SDPA.

    Every request has rotary modules of its own, as in a model that was just loaded with that config: those of dynamic
    NTK change while a text grows, and keys that are cached stay as they were turned.
    """

    class Config(Full.Config):
        """Parameters of scaled frequencies.

        Args:
            type: pi: all divided by the factor (position interpolation, arXiv:2306.15595; `linear` in transformers);
                ntk: a larger base, so that the slowest pair turns factor times slower, the fastest as before (NTK-aware
                scaling, reddit.com/r/LocalLLaMA/comments/14lz7j5); dynamic: that base for the text's own length once
                it is longer than in training (reddit.com/r/LocalLLaMA/comments/14mrgpr), where a factor of 1 is the
                plain rule; yarn: slow pairs divided, fast ones as they are, scores sharpened (YaRN,
                arXiv:2309.00071).
            factor: how many times longer than in training a text may be.
            trained_tokens: in training; None is what the model's config says.
        """

        type: Literal["pi", "ntk", "dynamic", "yarn"] = "yarn"
        factor: Annotated[float, Field(ge=1, le=1_000_000)] = 4.0
        trained_tokens: Count | None = None

        def resolve(self, spec: ModelSpec, device: DeviceKind, task: str = "") -> Self:
            """The trained length as a number."""
            return self.model_copy(update={"trained_tokens": self.trained_tokens or spec.trained_tokens})

        @property
        def rope(self) -> tuple[str, float, int]:
            """What `ModelRunner.with_rope` takes; the config must be resolved."""
            assert self.trained_tokens is not None, "resolve() first"
            return "linear" if self.type == "pi" else self.type, self.factor, self.trained_tokens

    backends = ("torch",)

    def __init__(self, config: Config, runner: ModelRunner) -> None:
        self.config, self.runner = config, runner

    def prefill(self, prompt: Prompt, stages: Stages) -> Prefilled:
        """Logits of the first answer token and the filled cache."""
        runner = self.runner.with_rope(*self.config.rope)
        return self._prefilled(runner, Full(Full.Config(), runner).prefill(prompt, stages), prompt)

    def read_context(self, prompt: Prompt, stages: Stages) -> "State | None":
        """The cache of prefix and context; None where frequencies depend on how many tokens there are."""
        if self.config.type == "dynamic":
            return None
        runner = self.runner.with_rope(*self.config.rope)
        return State(runner, Full(Full.Config(), runner).read_context(prompt, stages))

    def ask(self, read: "State", prompt: Prompt, stages: Stages) -> Prefilled:
        """The same as `prefill` from a copy of that cache."""
        return self._prefilled(read.runner, Full(Full.Config(), read.runner).ask(read.cache, prompt, stages), prompt)

    def _prefilled(self, runner: ModelRunner, prefilled: Prefilled, prompt: Prompt) -> Prefilled:
        """What full attention gave, as this method's."""
        prefilled.state = State(runner, prefilled.state)
        prefilled.warnings = []
        if self.config.type != "dynamic":
            _, factor, trained = self.config.rope
            prefilled.warnings = beyond_training(prompt, replace(runner.spec, trained_tokens=int(factor * trained)))
        return prefilled

    def step(self, prefilled: Prefilled, token: Tensor) -> Tensor:
        """Logits after one more token."""
        state: State = prefilled.state
        logits, state.cache = state.runner.stock_forward(token[None], state.cache)
        return logits

    def read(self, prefilled: Prefilled, tokens: Tensor) -> Tensor:
        """Last hidden rows [T, E] of given tokens."""
        state: State = prefilled.state
        rows, state.cache = state.runner.stock_rows(tokens[None], state.cache)
        return rows[0]

    def rows(self, prompt: Prompt) -> Tensor | None:
        """Last hidden rows of every token of a prompt; None where frequencies depend on how many there are."""
        if self.config.type == "dynamic":
            return None
        return Full(Full.Config(), self.runner.with_rope(*self.config.rope)).rows(prompt)
