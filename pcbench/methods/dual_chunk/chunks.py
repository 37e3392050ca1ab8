"""Which chunks far back a tile of queries reads: those whose keys its last query likes best."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pcbench.types import KVRows, Rotary

__all__ = ["Choice"]


@dataclass(eq=False)
class Choice:
    """The chunks of one request, and of every layer what their keys are like.

    A query sees all keys further back than the chunk before its own as from position `clip`, whichever chunk they are
    in. So chunks compare without regard to their place, and the mean logit of a chunk is that of its mean key.

    Args:
        keep: chunks chosen beside the first one.
        score: mean, max or lse, as `Config` says.
        tile_rows: queries that read the same chunks.
        period, clip: s and P.
        scale: of the attention scores.
        rotary: of the model.
        tables: layer → [B, Hkv, C, D] float32, sums of the keys of each chunk, or [B, Hkv, C, 2·D], the largest of
            each channel and of its negative; C are the chunks that the store has room for.
    """

    keep: int
    score: Literal["mean", "max", "lse"]
    tile_rows: int
    period: int
    clip: int
    scale: float
    rotary: Rotary
    tables: dict[int, Tensor] = field(default_factory=dict)

    def begin(self, layer: int) -> None:
        """Forgets what a layer has read; a layer that is run again in a backward pass reads it again."""
        self.tables.pop(layer, None)

    @torch.no_grad()
    def add(self, layer: int, k: Tensor, first: Tensor, counts: Tensor, longest: int) -> None:
        """Takes new keys of a layer.

        Args:
            layer: which.
            k: [B, Hkv, T, D], tokens at the front of their row.
            first: [B] int64, position of each row's first.
            counts: [B] int64, tokens of each row.
            longest: tokens of a row that the store has room for.
        """
        if self.score == "lse":
            return
        period, count, nothing = self.period, k.shape[2], self._nothing
        place = torch.arange(count, device=k.device)
        begin = first // period
        chunk = (first[:, None] + place) // period - begin[:, None]
        chunk = chunk.masked_fill(place >= counts[:, None], -1)
        found = []
        # as many chunks as a row touches that begins with the last token of one
        for number in range((count + period - 2) // period + 1):
            here = slice(max(0, (number - 1) * period), (number + 1) * period)
            keys = k[:, :, here].float()
            if self.score == "max":
                keys = torch.cat([keys, -keys], -1)
            own = torch.where((chunk[:, here] == number)[:, None, :, None], keys, nothing)
            found.append(own.sum(2) if self.score == "mean" else own.amax(2))
        self._join(layer, torch.stack(found, 2), begin, longest)

    @property
    def _nothing(self) -> float:
        """What a chunk without keys has."""
        return 0.0 if self.score == "mean" else -torch.inf

    def _join(self, layer: int, new: Tensor, begin: Tensor, longest: int) -> None:
        """Joins [B, Hkv, m, …] of the chunks from `begin` [B] on to what is there, where it lies."""
        table = self.tables.get(layer)
        if table is None:
            table = new.new_empty(*new.shape[:2], 0, new.shape[3])
        chunks = -(-longest // self.period)
        if chunks > table.shape[2]:
            table = torch.nn.functional.pad(table, (0, 0, 0, chunks - table.shape[2]), value=self._nothing)
        # of the new chunks one beyond the last is empty and changes nothing
        index = (begin[:, None] + torch.arange(new.shape[2], device=new.device)).clamp_max(chunks - 1)
        join = "sum" if self.score == "mean" else "amax"
        self.tables[layer] = table.scatter_reduce_(2, index[:, None, :, None].expand_as(new), new, join)

    @torch.no_grad()
    def __call__(self, layer: int, q: Tensor, rows: KVRows, counts: Tensor, gains: Tensor | None) -> Tensor | None:
        """What the tiles of new queries read.

        Args:
            layer: which.
            q: [B, H, T, D], tokens at the front of their row.
            rows: the keys, those of the new tokens with them, which have been added.
            counts: [B] int64, tokens of each row.
            gains: [B, T], of each row's scores; None means 1.

        Returns:
            [B, Hkv, N, K] int32 for N tiles, chunk 0 and the chosen ones in ascending order, −1 behind the last; None
            while no row can have a chunk to choose.
        """
        chunks = -(-rows.longest // self.period)
        # the first one, the one before, the own
        if chunks <= 3:
            return None
        ends = torch.arange(self.tile_rows, q.shape[2] + self.tile_rows, self.tile_rows, device=q.device)
        last = torch.minimum(ends, counts[:, None]).sub(1).clamp_min(0)
        position = (rows.lengths[:, :1] - counts[:, None] + last).clamp_min(0)
        chosen = q.gather(2, last[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[3])).float()
        inter = self.rotary.rotated(layer, chosen, (self.clip - position % self.period)[:, None])
        if gains is not None and self.score == "lse":
            inter = inter * gains.gather(1, last)[:, None, :, None]
        # [B, Hkv, G, N, D]
        grouped = inter.unflatten(1, (rows.starts.shape[1], -1))
        scores = self._scores(layer, grouped, rows, chunks).amax(2)
        number = torch.arange(scores.shape[3], device=q.device)
        far = (number > 0) & (number <= (position // self.period)[:, None, :, None] - 2)
        best = scores.masked_fill(~far, -torch.inf).topk(min(self.keep, scores.shape[3]), -1)
        beyond = scores.shape[3]
        ids = best.indices.masked_fill(best.values == -torch.inf, beyond).sort(-1).values
        ids = torch.nn.functional.pad(ids.masked_fill(ids == beyond, -1), (1, 0), value=0)
        return ids.int()

    def _scores(self, layer: int, q: Tensor, rows: KVRows, chunks: int) -> Tensor:
        """[B, Hkv, G, N, C] of queries [B, Hkv, G, N, D]; of chunks that are not whole it is anything."""
        if self.score == "mean":
            return q @ self.tables[layer][:, :, None].mT / self.period
        if self.score == "max":
            return torch.cat([q.relu(), (-q).relu()], -1) @ self.tables[layer][:, :, None].mT
        place = torch.arange(self.period, device=q.device)
        found = [q.new_full(q.shape[:-1], -torch.inf)]
        for number in range(1, chunks - 2):
            index = rows.starts[..., None].long() + number * self.period + place
            keys = rows.k_rows[index.clamp_max(len(rows.k_rows) - 1)].float()
            found.append((q @ keys[:, :, None].mT * self.scale).logsumexp(-1))
        return torch.stack(found, -1)

    def reorder(self, order: Tensor) -> None:
        """Row i becomes what row order[i] was; [B] int64."""
        self.tables = {layer: table[order] for layer, table in self.tables.items()}
