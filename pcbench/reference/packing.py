"""Tokens as rows of a forward: a micro-batch of chunks, or one row of those that follow."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from pcbench.types import Prompt

__all__ = ["ChunkBatch", "are_of_heads", "following", "of_heads"]


@dataclass(frozen=True)
class ChunkBatch:
    """[prefix, chunk, query] rows, left-aligned; positions start at 0 in each.

    M' real rows in a micro-batch of M slots, T tokens in the longest row, X rows that predict a query token.
    """

    ids: Tensor  # [M', T] int64
    positions: Tensor  # [M', T] int64
    lengths: Tensor  # [M'] int32
    context_lengths: Tensor  # [M'] int32, prefix + chunk
    first: int  # number of the first chunk in the document
    ragged: bool
    query_rows: int
    scored_rows: Tensor  # [X] int64, into the flattened rows
    targets: Tensor  # [X] int32
    segments: Tensor  # [X] int32
    chunk_ids: Tensor  # [M] int32, −1 pads

    @classmethod
    def of(
        cls, prompt: Prompt, spans: list[tuple[int, int]], first: int, slots: int, *, scored: int | None = None
    ) -> Self:
        """Packs some chunks of a prompt.

        Args:
            prompt: the request.
            spans: (start, end) of the chunks in its context.
            first: number of the first of them in the document.
            slots: M ≥ len(spans).
            scored: last tokens of each row that its score is the loss of; None means the query's, more than
                there are means all.
        """
        device, query = prompt.context.device, prompt.query
        rows = [torch.cat([prompt.prefix, prompt.context[a:b], query]) for a, b in spans]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        width = ids.shape[1]
        contexts = [row.numel() - query.numel() for row in rows]
        scored_rows, targets, segments = [], [], []
        for m, row in enumerate(rows):
            # a token is predicted by the row before it; the very first token of a row by none
            start = max(1, row.numel() - (query.numel() if scored is None else scored))
            scored_rows.append(torch.arange(start - 1, row.numel() - 1, device=device) + m * width)
            targets.append(row[start:])
            segments.append(torch.full((row.numel() - start,), m, dtype=torch.int32, device=device))
        chunk_ids = [first + m if m < len(spans) else -1 for m in range(slots)]
        return cls(
            ids=ids,
            positions=torch.arange(width, device=device).expand(len(rows), width),
            lengths=torch.tensor([row.numel() for row in rows], dtype=torch.int32, device=device),
            context_lengths=torch.tensor(contexts, dtype=torch.int32, device=device),
            first=first,
            ragged=len(set(contexts)) > 1,
            query_rows=query.numel(),
            scored_rows=torch.cat(scored_rows),
            targets=torch.cat(targets).int(),
            segments=torch.cat(segments),
            chunk_ids=torch.tensor(chunk_ids, dtype=torch.int32, device=device),
        )

    def scored(self, hidden: Tensor) -> Tensor:
        """[M', T, E] → [X, E]: the rows that predict the query's tokens."""
        return hidden.flatten(0, 1)[self.scored_rows]


def following(tokens: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a forward is given of tokens [T] that stand one after another.

    Args:
        tokens: [T] int64.
        position: [1] int64, of the first.

    Returns:
        ids [1, T], positions [1, T] int64 and lengths [1] int32.
    """
    count = tokens.numel()
    positions = position + torch.arange(count, device=tokens.device)
    return tokens[None], positions[None], torch.full((1,), count, dtype=torch.int32, device=tokens.device)


def of_heads(lengths: Tensor, kv_heads: int) -> Tensor:
    """[B, Hkv] int32, contiguous: the lengths [B] of rows as those of the keys of every kv-head."""
    found = lengths[:, None].expand(-1, kv_heads).contiguous()
    # values on a device are not read, so who needs to know that they are equal is told
    found.of_rows = lengths  # type: ignore[attr-defined]
    return found


def are_of_heads(key_lengths: Tensor | None, lengths: Tensor) -> bool:
    """Whether `of_heads` made the lengths of keys from these lengths of rows."""
    return getattr(key_lengths, "of_rows", None) is lengths
