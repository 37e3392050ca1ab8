"""Star Attention: blocks of the context see the first block and themselves, the question sees everything."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pcbench.config import Count, Table
from pcbench.methods.parallel_encoding.blocks import Layout, ParallelEncoding, block_flops
from pcbench.methods.whole_cache import StoredPlan
from pcbench.types import Cost, DeviceKind, ModelSpec, Prompt, linear_flops

__all__ = ["StarAttention"]

# of the paper: blocks of a quarter of the sequence
BLOCKS = 4


class Config(Table):
    """Parameters of Star Attention.

    Args:
        blocks: of prefix and context together, of equal length; 4, as in the paper, where no size is given.
        block_tokens: tokens of a block instead; the paper's, 32768, beyond 128K.
        anchor_tokens: first tokens of the text, of its first block, that every other block sees; None is the whole
            block, as in the paper, 0 is none; at most a block.
    """

    blocks: Count | None = None
    block_tokens: Count | None = None
    anchor_tokens: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.blocks is not None and self.block_tokens is not None:
            raise ValueError("blocks and block_tokens cannot both be given")
        if self.block_tokens is not None and (self.anchor_tokens or 0) > self.block_tokens:
            raise ValueError("anchor_tokens at most block_tokens")
        return self

    def resolve(self, spec: ModelSpec, device: DeviceKind, task: str = "") -> Self:
        """The number of blocks where no size is given."""
        return self if self.blocks or self.block_tokens else self.model_copy(update={"blocks": BLOCKS})

    def block(self, tokens: int) -> int:
        """Tokens of a block of a text of so many."""
        return self.block_tokens or max(1, -(-tokens // (self.blocks or BLOCKS)))

    def anchor(self, tokens: int) -> int:
        """Tokens of the anchor of a text of so many."""
        block = min(self.block(tokens), tokens)
        return block if self.anchor_tokens is None else min(self.anchor_tokens, block)

    def cost(self, spec: ModelSpec, tokens: int) -> Cost:
        """The pairs inside blocks and with the anchor, whose keys are computed once."""
        scores = block_flops(spec, tokens, self.block(tokens), self.anchor(tokens))
        return Cost(flops=linear_flops(spec, tokens) + scores, kv_tokens=tokens)


class StarAttention(ParallelEncoding):
    """Blockwise attention behind an anchor, then global attention: Star Attention, arXiv:2411.17116.

    Phase 1: prefix and context are cut into blocks, each of which sees the anchor, the text's first tokens, and
    itself; every token has its position in the text. Phase 2: question and answer see everything that is stored. The
    paper's hosts compute the anchor again before each block and drop its keys; here they are the stored ones of the
    first block, which are the same. One softmax over all keys is what the paper's hosts merge by their sums.
    """

    Config = Config

    def layout(self, prompt: Prompt) -> Layout:
        tokens = prompt.prefix.numel() + prompt.context.numel()
        block = self.config.block(tokens)
        spans = [(start, min(start + block, tokens)) for start in range(0, tokens, block)]
        return Layout(spans, self.config.anchor(tokens), None)

    def warnings(self, layout: Layout, prompt: Prompt) -> list[str]:
        """And where a block has fewer tokens than the anchor was to have."""
        asked, others = self.config.anchor_tokens or 0, super().warnings(layout, prompt)
        is_cut = len(layout.spans) > 1 and asked > layout.head
        return [f"anchor_tokens {asked} cut to {layout.head}, a block", *others] if is_cut else others

    def later(self, layout: Layout) -> StoredPlan:
        return StoredPlan(self.runner.spec)
