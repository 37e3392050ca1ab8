"""How a model's keys turn with their position: found by its own keys of one token at several positions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from pcbench.errors import ConfigError
from pcbench.models.float32 import in_float32
from pcbench.models.stores.slots import SlotCache

if TYPE_CHECKING:
    from pcbench.models.runner import HFRunner

__all__ = ["ModelRotary", "measure_rotary"]

# of three tokens; the first position is the one that others are rotated from
POSITIONS = (0, 1, 19, 97)
# of rotated keys in float32, relative to their norm: angles there have steps of 8e-6 at the last position
BOUND = 2e-5
# positions of a table that are made at once
PART = 1 << 14


@dataclass(frozen=True, eq=False)
class Turn:
    """A rotation of pairs among the first channels of a head.

    Args:
        frequencies: [R / 2] float64, radians a position; negative where a model turns the other way.
        interleaved: pairs stand beside each other; else a channel's partner stands R / 2 later.
    """

    frequencies: Tensor
    interleaved: bool

    def on(self, device: torch.device) -> Self:
        return replace(self, frequencies=self.frequencies.to(device))

    def __call__(self, rows: Tensor, by: Tensor) -> Tensor:
        angles = by[..., None].double() * self.frequencies.to(rows.device)
        wide = torch.float64 if rows.dtype == torch.float64 else torch.float32
        cos, sin = angles.cos().to(wide), angles.sin().to(wide)
        turning, rest = rows.split([2 * len(self.frequencies), rows.shape[-1] - 2 * len(self.frequencies)], -1)
        pairs = turning.to(wide).unflatten(-1, (-1, 2) if self.interleaved else (2, -1))
        axis = -1 if self.interleaved else -2
        a, b = pairs.unbind(axis)
        turned = torch.stack([a * cos - b * sin, b * cos + a * sin], axis).flatten(-2).to(rows.dtype)
        if not rest.shape[-1]:
            return turned
        return torch.cat([turned, rest.expand(*turned.shape[:-1], -1)], -1)


@dataclass(frozen=True, eq=False)
class ModelRotary:
    """The rotary embedding of each layer.

    Args:
        turns: of each layer; None where keys do not depend on their position.
        device: of the model.
        tables: those that have been asked for.
    """

    turns: Sequence[Turn | None]
    device: torch.device
    tables: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # what is copied with a request is not the model's
        return self

    def on(self, device: torch.device) -> "ModelRotary":
        """The same of the model where it has been moved to."""
        moved = {id(turn): turn and turn.on(device) for turn in self.turns}
        return ModelRotary([moved[id(turn)] for turn in self.turns], device)

    def rotated(self, layer: int, rows: Tensor, by: Tensor) -> Tensor:
        """Keys or queries as they would be `by` positions later, in their dtype; computed in float32 at least.

        Args:
            layer: whose.
            rows: [..., D] after rotary embedding.
            by: [...] integers that broadcast with the rows, negative for earlier; minus its position gives what a row
                was before rotary embedding, but for a constant factor that some scalings have.
        """
        turn = self.turns[layer]
        return rows if turn is None else turn(rows, by)

    def table(self, layer: int, longest: int) -> tuple[Tensor, bool]:
        """Cosines and sines for 0…longest positions, [longest + 1, R] float32, and whether pairs are interleaved.

        Layers that turn alike have one table. Angles are made in float64; R is 0 where keys do not turn.
        """
        turn = self.turns[layer]
        key = (id(turn), longest)
        if key not in self.tables:
            self.tables[key] = self._table(turn, longest)
        return self.tables[key], turn is not None and turn.interleaved

    def _table(self, turn: Turn | None, longest: int) -> Tensor:
        if turn is None:
            return torch.empty(longest + 1, 0, device=self.device)
        frequencies, parts = turn.frequencies, []
        # a part at a time, for float64 takes several times the room
        for first in range(0, longest + 1, PART):
            position = torch.arange(first, min(first + PART, longest + 1), device=frequencies.device)
            angles = position.double()[:, None] * frequencies
            parts.append(torch.cat([angles.cos(), angles.sin()], 1).float())
        return torch.cat(parts)


@torch.no_grad()
def measure_rotary(runner: "HFRunner") -> ModelRotary:
    """Finds for each layer which of the model's own frequencies turn its keys, in which pairs.

    Raises:
        ConfigError: none does, to float32 rounding; names the model and the layer.
    """
    candidates = [None, *_candidates(runner.model, runner.device)]
    by = torch.tensor(POSITIONS, device=runner.device)[:, None]
    turns = []
    for layer, keys in enumerate(_keys(runner)):
        first, norm = keys[:, :1], keys.norm(dim=-1)
        fits = lambda turn: _error(first.expand_as(keys) if turn is None else turn(first, by), keys, norm)  # noqa: B023, E731
        best = min(candidates, key=fits)
        if not fits(best) <= BOUND:
            raise ConfigError(
                f"--model: keys that its own frequencies turn with their position, got {runner.spec.name} "
                f"({runner.model.config.model_type}), whose layer {layer} does otherwise; choose another model, or a "
                "method that rotates no keys"
            )
        turns.append(best)
    return ModelRotary(turns, runner.device)


def _error(ours: Tensor, keys: Tensor, norm: Tensor) -> float:
    return float(((ours - keys).norm(dim=-1) / norm).max())


def _candidates(model: Any, device: torch.device) -> Iterator[Turn]:
    for name, buffer in model.named_buffers():
        if name.endswith("inv_freq") and not name.endswith("original_inv_freq"):
            frequencies = buffer.detach().to(device, torch.float64, copy=True)
            for interleaved in (False, True):
                yield Turn(frequencies, interleaved)
                yield Turn(-frequencies, interleaved)


def _keys(runner: "HFRunner") -> list[Tensor]:
    """Of each layer, [tokens, positions, Hkv, D] float64: a lone token attends to itself, so only its keys turn."""
    ids = torch.arange(1, 4, device=runner.device).remainder(runner.spec.vocab)[:, None]
    positions = torch.tensor(POSITIONS, device=runner.device)[None]
    shape = (len(ids), len(POSITIONS))
    rows = ids.expand(shape).reshape(-1, 1), positions.expand(shape).reshape(-1, 1)
    found: list[Tensor] = []

    def plan(layer: int, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> Tensor:
        found.append(k[:, :, 0].double().unflatten(0, shape))
        return v.repeat_interleave(q.shape[1] // v.shape[1], 1)

    ones = torch.ones(len(rows[0]), dtype=torch.int32, device=runner.device)
    store = SlotCache(runner.spec, len(ones), 1, evictions=False, dtype=torch.float32, device=runner.device)
    store.begin(torch.arange(len(ones), dtype=torch.int32, device=runner.device))
    with in_float32(runner.model):
        runner.forward(*rows, ones, store, plan)
    return found
