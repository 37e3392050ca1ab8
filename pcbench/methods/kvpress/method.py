"""The method: what a press of kvpress leaves of a prompt, read on by the model's own code."""

import ast
import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal, Self

import torch
from pydantic import AfterValidator
from torch import Tensor

from pcbench.config import Table
from pcbench.errors import ConfigError, DataMissing, PcbenchError, first_line
from pcbench.methods.kvpress.expression import PACKAGE, built, named, parsed
from pcbench.registry import exported
from pcbench.types import (
    Cost,
    DeviceKind,
    ModelRunner,
    ModelSpec,
    Prefilled,
    Pressed,
    Prompt,
    Stages,
    beyond_training,
    causal_flops,
)

__all__ = ["KVPress"]

INSTALL = "pip install --no-deps kvpress && pip install cachetools datasets fire requests tqdm"
MASKED = "masked, nothing freed"
# what the model's own code runs a press into that does not take the model, the prompt or its own arguments
REFUSED = (AssertionError, AttributeError, IndexError, KeyError, NotImplementedError, TypeError, ValueError)
# presses that fetch what others have trained or measured
FETCHING = (
    *("DuoAttentionPress", "ExpectedAttentionStatsPress", "FastKVzipPress", "KVgradPress", "KVzapPress", "KVzipPress"),
    *("LUKVPress", "QFilterPress"),
)


def _normal(text: str) -> str:
    return ast.unparse(parsed(text))


def _is_of_files(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from, says that a file cannot be had."""
    return error is not None and (isinstance(error, OSError) or _is_of_files(error.__cause__))


class KVPress:
    """A press of kvpress (github.com/NVIDIA/kvpress) over a stock forward; no line of it is ours."""

    class Config(Table):
        """Which press, and what it sees.

        Args:
            press: a call of what kvpress exports, as SnapKVPress(compression_ratio=0.5); its arguments are literals,
                lists of them and presses.
            sees: query: prefix, context and question, as our own eviction methods do; context: prefix and context, and
                the question is read over what stayed, as in kvpress's own pipeline.
        """

        press: Annotated[str, AfterValidator(_normal)]
        sees: Literal["query", "context"] = "query"

        def resolve(self, spec: ModelSpec, device: DeviceKind, task: str = "") -> Self:
            """The same.

            Raises:
                DataMissing: kvpress is not installed.
            """
            if exported(PACKAGE) is None:
                raise DataMissing(f"kvpress: an installed package, got none; install it: {INSTALL}")
            return self

        def cost(self, spec: ModelSpec, tokens: int) -> Cost:
            """A full causal forward; a press says what it keeps when it has run."""
            return Cost(flops=causal_flops(spec, tokens), kv_tokens=tokens)

    backends = ("torch",)

    def __init__(self, config: Config, runner: ModelRunner) -> None:
        self.config, self.runner = config, runner
        tree = parsed(config.press)
        self.fetches = sorted(set(named(tree)) & set(FETCHING))
        with self._explained(RuntimeError):
            self.pressed = runner.pressed(lambda library: built(tree, library))

    def prefill(self, prompt: Prompt, stages: Stages) -> Prefilled:
        """Logits of the first answer token, and what the press left."""
        head = [prompt.prefix, prompt.context, *([prompt.query] if self.config.sees == "query" else [])]
        ids, later = torch.cat(head), prompt.query[: 0 if self.config.sees == "query" else None]
        if not ids.numel():
            ids, later = later, later[:0]
        rows, held = self._compressed(ids, stages)
        return self._prefilled(rows, held, later, prompt, stages)

    def read_context(self, prompt: Prompt, stages: Stages) -> "tuple[Tensor, Pressed] | None":
        """What the press left of prefix and context; None where it sees the question, too."""
        ids = torch.cat([prompt.prefix, prompt.context])
        return None if self.config.sees == "query" or not ids.numel() else self._compressed(ids, stages)

    def ask(self, read: "tuple[Tensor, Pressed]", prompt: Prompt, stages: Stages) -> Prefilled:
        """The same as `prefill` from a copy of what it left."""
        rows, held = read
        return self._prefilled(rows, copy.deepcopy(held), prompt.query, prompt, stages)

    def step(self, prefilled: Prefilled, token: Tensor) -> Tensor:
        """Logits after one more token."""
        with self._explained():
            return self.runner.logits(self.pressed.step(token[None], prefilled.state)[:, -1])

    def read(self, prefilled: Prefilled, tokens: Tensor) -> Tensor:
        """Last hidden rows [T, E] of given tokens."""
        with self._explained():
            return self.pressed.go_on(tokens[None], prefilled.state)[0]

    def _compressed(self, ids: Tensor, stages: Stages) -> "tuple[Tensor, Pressed]":
        """Last hidden rows [1, T, E] of ids [T], and what the press left of them."""
        with stages("forward"), self._explained():
            return self.pressed.compress(ids[None])

    def _prefilled(self, rows: Tensor, held: Pressed, later: Tensor, prompt: Prompt, stages: Stages) -> Prefilled:
        """Reads what of the question is still to come, ids [n], over what stayed."""
        kept, masked = held.kept(), held.is_masked
        if later.numel():
            with stages("query"), self._explained():
                rows = self.pressed.go_on(later[None], held)
        return Prefilled(
            logits=self.runner.logits(rows[:, -1]),
            state=held,
            kept_tokens=kept,
            kv_bytes=held.stored_bytes(),
            kv_bytes_prompt=held.stored_bytes(),
            kv_bytes_predicted=held.shaped_bytes(),
            warnings=[*beyond_training(prompt, self.runner.spec), *([MASKED] if masked else []), *held.warnings],
        )

    @contextmanager
    def _explained(self, *more: type[Exception]) -> Iterator[None]:
        """What a press raises inside, in one line; `more` kinds where they cannot be want of memory."""
        try:
            yield
        except PcbenchError:
            raise
        except ImportError as error:
            raise DataMissing(f"kvpress: what it imports, got {first_line(error)}; install it: {INSTALL}") from error
        except (OSError, *REFUSED, *more) as error:
            line = f"{type(error).__name__}: {first_line(error)}"
            if self.fetches and _is_of_files(error):
                raise DataMissing(
                    f"kvpress: files that {' and '.join(self.fetches)} reads from the Hugging Face hub or the model's "
                    f"folder, got {line}; run it once where the network is, or choose another press"
                ) from error
            raise ConfigError(
                f"kvpress: a press that takes this model and prompt, got {self.config.press}: {line}; choose another "
                "press or other arguments"
            ) from error
