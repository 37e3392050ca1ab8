"""What tokens after the prompt displace: classes that are `Decoding`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from pcbench.methods.eviction.policy import Prompted
from pcbench.types import Ops, RaggedKVStore

__all__ = ["Accumulated", "Oldest", "WindowSum", "received"]


@dataclass
class Oldest:
    """The oldest token behind the first `sink`: a window that rolls, as StreamingLLM (arXiv:2309.17453) has it."""

    sink: int
    weighs: ClassVar[bool] = False
    apart: ClassVar[int] = 0

    def begin(self, prompted: Prompted, store: RaggedKVStore) -> None: ...

    def after(self, layer: int, masses: Sequence[Tensor], count: int, store: RaggedKVStore) -> None:
        store.victims[layer] = _victims(store, layer, None, self.sink, 1)


@dataclass
class Accumulated:
    """The token that has received the least attention, summed since the prompt's first query: H2O's greedy eviction.

    Args:
        sink: first tokens that stay.
        recent: newest tokens that stay.
        sums: layer → [B, Hkv, L] float32.
    """

    sink: int
    recent: int
    sums: dict[int, Tensor] = field(default_factory=dict)
    weighs: ClassVar[bool] = True
    apart: ClassVar[int] = 0

    def begin(self, prompted: Prompted, store: RaggedKVStore) -> None:
        mass = prompted.mass.unflatten(1, (store.shape[1], -1)).sum(2)
        self.sums[prompted.layer] = _by_segment(mass, prompted, store)

    def after(self, layer: int, masses: Sequence[Tensor], count: int, store: RaggedKVStore) -> None:
        (mass,) = masses
        total = _overwritten(self.sums[layer], store, layer, count, mass.shape[2]) + mass
        self.sums[layer] = total
        store.victims[layer] = _victims(store, layer, total, self.sink, self.recent)


@dataclass
class WindowSum:
    """The token that received the least attention from the last `window` queries.

    Args:
        window: queries; those of the prompt count until enough new ones are there.
        sink: first tokens that stay.
        recent: newest tokens that stay.
        everywhere: heads of a layer decide together.
        last: layer → masses of the last queries, [B, Hkv, L] float32 each, oldest first.
    """

    window: int
    sink: int
    recent: int
    everywhere: bool = False
    last: dict[int, list[Tensor]] = field(default_factory=dict)
    weighs: ClassVar[bool] = True

    @property
    def apart(self) -> int:
        return self.window

    def begin(self, prompted: Prompted, store: RaggedKVStore) -> None:
        count = min(self.window, prompted.q.shape[2])
        self.last[prompted.layer] = [self._of_row(prompted, store, after) for after in reversed(range(count))]

    def _of_row(self, prompted: Prompted, store: RaggedKVStore, after: int) -> Tensor:
        """What the query that `after` others follow gave the keys that stay."""
        layer, rows = prompted.layer, store.rows(prompted.layer)
        q, lse = prompted.q, prompted.lse
        if prompted.lengths is None:
            one, state = q[:, :, q.shape[2] - 1 - after, None], lse[:, :, q.shape[2] - 1 - after, None]
        else:
            row = (prompted.lengths - 1 - after).clamp_min(0).long()[:, None, None]
            state = lse.gather(2, row.expand(-1, lse.shape[1], 1))
            one = q.gather(2, row[..., None].expand(-1, q.shape[1], 1, q.shape[3]))
        mass = received(one.contiguous(), state.contiguous(), layer, store, prompted.ops)
        # later keys stand behind it
        now = store.seen.view(-1, 1, 1) - 1 - after
        return mass.masked_fill(_by_place(store.positions[layer], store, layer, rows.longest) > now, 0.0)

    def after(self, layer: int, masses: Sequence[Tensor], count: int, store: RaggedKVStore) -> None:
        before = [_overwritten(x, store, layer, count, masses[0].shape[2]) for x in self.last[layer]]
        self.last[layer] = kept = [*before, *masses][-self.window :]
        total = torch.stack(kept).sum(0)
        if self.everywhere:
            total = total.mean(1, keepdim=True).expand_as(total)
        store.victims[layer] = _victims(store, layer, total, self.sink, self.recent)


def received(
    q: Tensor, lse: Tensor, layer: int, store: RaggedKVStore, ops: Ops, *, causal_last: bool = False, later: int = 0
) -> Tensor:
    """[B, Hkv, L] float32: what the keys of a layer received from rows q [B, H, R, D] with lse [B, H, R].

    With `causal_last` the rows are the newest tokens but `later`, and the keys of both end their segments.
    """
    rows = store.rows(layer)
    slots = torch.arange(store.shape[0], dtype=torch.int32, device=q.device)[:, None]
    mass: Tensor = ops.window_mass(
        q, lse, rows.k_rows, rows.starts, rows.lengths - later, slots,
        scale=store.scale, causal_last=causal_last, longest=rows.longest,
    )  # fmt: skip
    return mass[:, 0].unflatten(1, (store.shape[1], -1)).sum(2)


def _overwritten(scores: Tensor, store: RaggedKVStore, layer: int, count: int, longest: int) -> Tensor:
    """[B, Hkv, L]: the scores before a token came, with nothing where its key stands now."""
    scores = torch.nn.functional.pad(scores, (0, longest - scores.shape[2]))
    newest = _by_place(store.positions[layer], store, layer, longest) >= store.seen.view(-1, 1, 1) - count
    return scores.masked_fill(newest, 0.0)


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
