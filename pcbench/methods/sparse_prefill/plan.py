"""Attention of a prompt over the blocks of keys that each block of queries and head has chosen."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pcbench.methods.sparse_prefill.antidiagonals import block_sums, chosen_blocks
from pcbench.methods.whole_cache import FreshPlan
from pcbench.types import Ops, Stages

__all__ = ["SparsePlan"]

# keys and values of chosen blocks that are gathered at once
GATHERED_BYTES = 256 << 20


@dataclass(frozen=True)
class SparsePlan(FreshPlan):
    """Block-sparse causal attention of a prompt's tokens; the store takes all keys and values.

    Args:
        stride, threshold, block: as `Config` says.
        stages: names the choice.
    """

    stride: int
    threshold: float
    block: int
    stages: Stages

    def attended(self, layer: int, q: Tensor, k: Tensor, v: Tensor, ops: Ops) -> Tensor:
        (heads, tokens, _), block = q.shape[1:], self.block
        if tokens <= 2 * block:
            # the first block and a row's own are all there are
            return super().attended(layer, q, k, v, ops)
        with self.stages("selection"):
            sums = block_sums(q[0], k[0], stride=self.stride, block=block, scale=self.spec.scale)
            blocks = sums.shape[1]
            own = torch.arange(blocks, device=q.device)
            # beside a block's own; its number is asked of the device once a layer
            others = chosen_blocks(sums, self.threshold).transpose(0, 1) & (own != own[:, None])[:, None]  # [N, H, N]
            counts = others.sum(2)
            most = counts.amax(1).tolist()
        rows = torch.nn.functional.pad(q[0], (0, 0, 0, blocks * block - tokens)).unflatten(1, (blocks, block))
        rows = rows.transpose(0, 1)  # [N, H, block, D]
        valid = (tokens - own * block).clamp_max(block)
        key_head = (torch.arange(heads, device=q.device) // (heads // k.shape[1]))[:, None]
        outs = []
        for here, longest in self._steps(most, heads * 2 * block * q.shape[3] * q.element_size()):
            # numbers of the chosen blocks, ascending, then a row's own
            listed = (~others[here]).int().argsort(dim=2, stable=True)[..., : longest + 1]
            place = own[here, None, None].expand(-1, heads, -1)
            listed = listed.scatter(2, counts[here, :, None], place)
            index = (listed[..., None] * block + torch.arange(block, device=q.device)).flatten(2).clamp_max(tokens - 1)
            k_seen, v_seen = (x[0][key_head, index] for x in (k, v))  # [n, H, S, D]
            lengths = (counts[here] * block + valid[here, None]).int()
            out = ops.calibrated_attention(
                rows[here], k_seen, v_seen, scale=self.spec.scale, causal=True,
                query_lengths=valid[here].int(), key_lengths=lengths,
            )[0]  # fmt: skip
            outs.append(out)
        return torch.cat(outs).transpose(0, 1).flatten(1, 2)[None, :, :tokens]

    @staticmethod
    def _steps(most: list[int], block_bytes: int) -> Iterator[tuple[slice, int]]:
        """Runs of query blocks whose keys and values are gathered at once, and the most that one of them has chosen.

        Args:
            most: of each block of queries, chosen blocks beside its own.
            block_bytes: of a block of keys and values of all heads.
        """
        first = 0
        while first < len(most):
            end, longest = first, 0
            while end < len(most):
                longer = max(longest, most[end])
                if end > first and (end + 1 - first) * (longer + 1) * block_bytes > GATHERED_BYTES:
                    break
                end, longest = end + 1, longer
            yield slice(first, end), longest
            first = end
