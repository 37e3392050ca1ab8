"""Joins tasks and models: the prompts of a cell."""

from typing import Any

import torch

from pcbench.tasks import Example, example
from pcbench.types import Prompt, Tokenizer

__all__ = ["build_example", "device_prompt", "key_chunk", "key_depth"]


def build_example(prepared: Any, tokenizer: Tokenizer, index: int) -> Example:
    """Prompt `index` of a cell; all cells of a group with one limit of tokens get the same ones."""
    cell = prepared.cell
    return example(
        cell.task,
        tokenizer,
        context_tokens=cell.context_tokens,
        new_tokens=prepared.new_tokens,
        seed=cell.seed,
        index=index,
        prompts=cell.templates,
        chat=cell.chat,
        prompt_tokens=cell.prompt_tokens,
    )


def device_prompt(example: Example, device: torch.device) -> Prompt:
    """An example's ids as tensors on the device."""
    parts = (example.prefix, example.context, example.query)
    tensors = [torch.tensor(ids, dtype=torch.int64, device=device) for ids in parts]
    return Prompt(*tensors, new_tokens=example.new_tokens, characters=example.context_characters)


def key_chunk(example: Example, spans: list[tuple[int, int]] | None) -> int | None:
    """The chunk that holds the first token of the needle; None without chunks or without a needle."""
    if spans is None or example.key_span is None:
        return None
    start = example.key_span[0]
    return next((i for i, (a, b) in enumerate(spans) if a <= start < b), None)


def key_depth(example: Example) -> float | None:
    """Where the needle begins, as a share of the context; None without a needle."""
    return None if example.key_span is None else example.key_span[0] / len(example.context)
