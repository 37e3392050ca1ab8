"""What tokens after the prompt displace: classes that are `Decoding`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pcbench.methods.eviction.policy import Prompted
from pcbench.types import Ops, RaggedKVStore

__all__ = ["Accumulated", "Oldest", "WindowSum", "received"]


@dataclass(frozen=True)
class Oldest:
    """The oldest token behind the first `sink`: a window that rolls, as StreamingLLM (arXiv:2309.17453) has it."""

    sink: int
    kept_masses: ClassVar[int] = 0
    apart: ClassVar[int] = 0

    def begin(self, prompted: Prompted, store: RaggedKVStore) -> None: ...

    def after(self, layer: int, masses: Sequence[Tensor], count: int, store: RaggedKVStore) -> None:
        store.name_victims(layer, _victims(store, layer, None, self.sink, 1))


@dataclass(frozen=True)
class Accumulated:
    """The token that has received the least attention, summed since the prompt's first query: H2O's greedy eviction.

    Args:
        sink: first tokens that stay.
        recent: newest tokens that stay.
    """

    sink: int
    recent: int
    kept_masses: ClassVar[int] = 1
    apart: ClassVar[int] = 0

    def begin(self, prompted: Prompted, store: RaggedKVStore) -> None:
        mass = prompted.mass.unflatten(1, (store.shape[1], -1)).sum(2)
        store.masses[prompted.layer][0] = _by_segment(mass, prompted, store)

    def after(self, layer: int, masses: Sequence[Tensor], count: int, store: RaggedKVStore) -> None:
        (mass,), total = masses, store.masses[layer][0]
        _forget_overwritten(layer, count, store)
        total += mass
        store.name_victims(layer, _victims(store, layer, total, self.sink, self.recent))


@dataclass(frozen=True)
class WindowSum:
    """The token that received the least attention from the last `window` queries.

    The store holds what each of these gave, the query of token t at t modulo `window`.

    Args:
        window: queries; those of the prompt count until enough new ones are there.
        sink: first tokens that stay.
        recent: newest tokens that stay.
        everywhere: heads of a layer decide together.
    """

    window: int
    sink: int
    recent: int
    everywhere: bool = False

    @property
    def kept_masses(self) -> int:
        return self.window

    @property
    def apart(self) -> int:
        return self.window

    def begin(self, prompted: Prompted, store: RaggedKVStore) -> None:
        layer, q, lse = prompted.layer, prompted.q, prompted.lse
        batch, heads, tokens, dim = q.shape
        lengths = q.new_full((batch,), tokens, dtype=torch.int64) if prompted.lengths is None else prompted.lengths
        before = torch.arange(1, self.window + 1, device=q.device)
        row = (lengths[:, None] - before).clamp_min(0).long()[:, None]  # [B, 1, W]
        one = q.gather(2, row[..., None].expand(-1, heads, -1, dim))
        state = lse.gather(2, row.expand(-1, heads, -1))
        # a batch row for each query: [W·B, H, 1, D]
        one, state = (x.movedim(2, 0).flatten(0, 1).unsqueeze(2).contiguous() for x in (one, state))
        mass = received(one, state, layer, store, prompted.ops).unflatten(0, (self.window, batch))
        # what stands behind a query it has not seen, nor is there a query before the first token
        place = _by_place(store.positions[layer], store, layer, store.rows(layer).longest)
        unseen = place > store.seen.view(-1, 1, 1) - before.view(-1, 1, 1, 1)
        store.masses[layer][(store.read - before) % self.window] = mass.masked_fill(unseen, 0.0)

    def after(self, layer: int, masses: Sequence[Tensor], count: int, store: RaggedKVStore) -> None:
        held = store.masses[layer]
        _forget_overwritten(layer, count, store)
        for before, mass in enumerate(reversed(masses), 1):
            held.index_copy_(0, (store.read - before) % self.window, mass[None])
        total = held.sum(0)
        if self.everywhere:
            total = total.mean(1, keepdim=True).expand_as(total)
        store.name_victims(layer, _victims(store, layer, total, self.sink, self.recent))


def received(
    q: Tensor, lse: Tensor, layer: int, store: RaggedKVStore, ops: Ops, *, causal_last: bool = False, later: int = 0
) -> Tensor:
    """[B', Hkv, L] float32: what the keys of a layer received from rows q [B', H, R, D] with lse [B', H, R].

    B' is the store's batch rows or several times these, one batch after another. With `causal_last` the rows are the
    newest tokens but `later`, and the keys of both end their segments.
    """
    rows = store.rows(layer)
    slots = torch.arange(q.shape[0], dtype=torch.int32, device=q.device)[:, None] % store.shape[0]
    mass: Tensor = ops.window_mass(
        q, lse, rows.k_rows, rows.starts, rows.lengths - later, slots,
        scale=store.scale, causal_last=causal_last, longest=rows.longest,
    )  # fmt: skip
    return mass[:, 0].unflatten(1, (store.shape[1], -1)).sum(2)


def _forget_overwritten(layer: int, count: int, store: RaggedKVStore) -> None:
    """Clears what the store holds of keys in whose rows the last `count` tokens stand now."""
    held = store.masses[layer]
    newest = _by_place(store.positions[layer], store, layer, held.shape[3]) >= store.seen.view(-1, 1, 1) - count
    held.masked_fill_(newest, 0.0)


def _by_place(rows: Tensor, store: RaggedKVStore, layer: int, longest: int) -> Tensor:
    """[rows] of an arena → [B, Hkv, L], each segment's at its front; what stands behind a segment is another's."""
    place = store.starts[layer][..., None].long() + torch.arange(longest, device=rows.device)
    return rows[place.clamp_max(len(rows) - 1)]


def _by_segment(scores: Tensor, prompted: Prompted, store: RaggedKVStore) -> Tensor:
    """[B, Hkv, S] scores of the prompt → [B, Hkv, L] of the keys that stayed."""
    layer, longest = prompted.layer, store.rows(prompted.layer).longest
    place = _by_place(store.positions[layer], store, layer, longest).long()
    held = torch.arange(longest, device=scores.device) < store.lengths[layer][..., None]
    return scores.gather(2, place.clamp(0, scores.shape[2] - 1)).masked_fill(~held, 0.0)


def _victims(store: RaggedKVStore, layer: int, scores: Tensor | None, sink: int, recent: int) -> Tensor:
    """[B, Hkv] int32: the row of each segment with the lowest score, the lower one of equals.

    Among tokens of the first `sink` and the newest `recent` only where there are no others, and then the oldest;
    without scores always the oldest.
    """
    longest = store.rows(layer).longest
    place = _by_place(store.positions[layer], store, layer, longest)
    age = place.double()
    held = torch.arange(longest, device=place.device) < store.lengths[layer][..., None]
    stays = (place < sink) | (place >= store.seen.view(-1, 1, 1) - recent)
    value = age if scores is None else scores.double()
    # above every age and every sum of attention
    value = torch.where(stays, age + 2.0**40, value).masked_fill(~held, torch.inf)
    return value.argmin(-1).int()
