"""APE: adaptive parallel encoding, contexts at the same positions that the question reads with a sharper softmax."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from pcbench.config import Count, Table
from pcbench.methods.parallel_encoding.blocks import Layout, ParallelEncoding, block_flops
from pcbench.reference.chunks import split_chunks
from pcbench.types import Cost, DeviceKind, ModelSpec, Ops, Prompt, RaggedKVStore, linear_flops

__all__ = ["APE", "TemperedPlan"]

# of the trained length, what a context takes; the rest is for what stands before and behind it
EIGHTHS = 7

Positive = Annotated[float, Field(gt=0)]


class Config(Table):
    """Parameters of APE.

    Args:
        chunk_tokens: tokens of a context at most, of which the text is cut into the fewest, of equal length; None is
            seven eighths of the trained length. Chunks that whoever asks names stay as they are.
        temperature: T: what the scores of the contexts are divided by.
        scale: S: the power to which their sum of exponentials is raised.
        preset: released: the released code's default (Infini-AI-Lab/APE, January 2025), T = S = 0.9, whose code
            multiplies S by T, and its LongBench contexts of 7500 tokens.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "released": {"temperature": 0.9, "scale": 0.81, "chunk_tokens": 7500}
    }

    chunk_tokens: Count | None = None
    temperature: Positive = 0.9
    scale: Positive = 0.9
    preset: Literal["released"] | None = None

    def resolve(self, spec: ModelSpec, device: DeviceKind, task: str = "") -> Self:
        """Numbers in place of the preset and of what belongs to the model."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        found = self.model_copy(update={**self.presets.get(self.preset or "", {}), **given})
        if found.chunk_tokens is not None:
            return found
        return found.model_copy(update={"chunk_tokens": max(1, EIGHTHS * spec.trained_tokens // 8)})

    @property
    def longest(self) -> int:
        """Tokens of a context; the config must be resolved."""
        assert self.chunk_tokens is not None, "resolve() first"
        return self.chunk_tokens

    def cost(self, spec: ModelSpec, tokens: int) -> Cost:
        """The pairs inside contexts; a prefix is short beside them."""
        chunks = -(-tokens // self.longest)
        scores = block_flops(spec, tokens, max(1, -(-tokens // max(1, chunks))), 0)
        return Cost(flops=linear_flops(spec, tokens) + scores, kv_tokens=tokens)


@dataclass(frozen=True)
class TemperedPlan:
    """Attention of new tokens over contexts, by a temperature and a power, and over all other keys.

    The output is (Z_c^S·o_c + Z_o·o_o) / (Z_c^S + Z_o): o_c and Z_c are output and sum of exponentials of the contexts
    with scores divided by T, o_o and Z_o those of all other keys as they are.

    Args:
        spec: the model.
        prefix: tokens before the contexts.
        contexts: tokens of all contexts.
        temperature: T.
        scale: S.
    """

    spec: ModelSpec
    prefix: int
    contexts: int
    temperature: float
    scale: float

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: RaggedKVStore, ops: Ops) -> Tensor:
        rows, scale = store.rows(layer), self.spec.scale
        # prefix, contexts and what follows as three segments of each kv-head, [3, Hkv]
        first, held = rows.starts, torch.full_like(rows.lengths, self.prefix + self.contexts)
        starts = torch.cat([first, first + self.prefix, first + held])
        lengths = torch.cat([
            torch.full_like(held, self.prefix), torch.full_like(held, self.contexts), rows.lengths - held,
        ])  # fmt: skip
        arrays = q, rows.k_rows, rows.v_rows, starts, lengths
        middle = torch.ones(1, 1, dtype=torch.int32, device=q.device)
        outer = torch.arange(0, 3, 2, dtype=torch.int32, device=q.device)[None]
        tempered, total = ops.cached_attention(*arrays, middle, scale=scale / self.temperature, causal_last=False)
        others, rest = ops.cached_attention(*arrays, outer, scale=scale, causal_last=True)
        outs, lses = torch.stack([tempered, others]).float(), torch.stack([self.scale * total, rest])
        out: Tensor = ops.merge_states(outs, lses)[0]
        return out.to(q.dtype)


class APE(ParallelEncoding):
    """Contexts in parallel behind a shared prefix: APE, adaptive parallel encoding, arXiv:2502.05431 (ICLR 2025).

    Each context sees the prefix and itself, all of them at the same positions. Question and answer stand behind the
    longest; their attention to the contexts has a temperature T and its sum of exponentials a power S, that to prefix,
    question and answer is the model's own.
    """

    Config = Config

    def layout(self, prompt: Prompt) -> Layout:
        prefix, context = prompt.prefix.numel(), prompt.context.numel()
        spans = split_chunks(context, self.config.longest) if prompt.spans is None else prompt.spans
        found = [(prefix + start, prefix + end) for start, end in spans if end > start]
        return Layout([(0, prefix), *found] if prefix else found, prefix, prefix)

    def later(self, layout: Layout) -> TemperedPlan:
        contexts = layout.spans[-1][1] - layout.head if layout.spans else 0
        return TemperedPlan(self.runner.spec, layout.head, contexts, self.config.temperature, self.config.scale)
