"""Joins tasks and models: the prompts of a cell."""

from typing import Any

import torch

from pcbench.errors import BadData
from pcbench.tasks import Example, example, load_task
from pcbench.tasks.base import Prompts, task_id
from pcbench.types import Cell, Prompt, Tokenizer

__all__ = ["build_example", "device_prompt", "key_chunk", "key_depth", "prompt_choice"]


def prompt_choice(cell: Cell) -> tuple[Prompts, int | None]:
    """Whose texts stand around a cell's records, and the limit of tokens: of a group, cells that agree share prompts.

    The released runner of ParallelComp has unsplit prompts for methods that read a record in one window.
    """
    whole = cell.templates == "parallelcomp" and "chunk_tokens" not in cell.method_config
    return "parallelcomp-raw" if whole else cell.templates, cell.prompt_tokens


def build_example(prepared: Any, tokenizer: Tokenizer, index: int) -> Example:
    """Prompt `index` of a cell.

    Raises:
        BadData: a user's file is no longer that of the plan, whatever came of the prompt.
        Others: those of `example`.
    """
    cell = prepared.cell
    prompts, prompt_tokens = prompt_choice(cell)
    try:
        return example(
            cell.task,
            tokenizer,
            context_tokens=cell.context_tokens,
            new_tokens=prepared.new_tokens,
            seed=cell.seed,
            index=index,
            prompts=prompts,
            chat=cell.chat,
            prompt_tokens=prompt_tokens,
            chat_date=cell.chat_date,
            chat_arguments=cell.chat_arguments,
        )
    finally:
        planned, now = (task_id(cell.task, task) for task in (prepared.task, load_task(cell.task, prepared.where)))
        if now != planned:
            raise BadData(f"{cell.task}: {planned}, with which the run began, got {now}; measure again from the start")


def device_prompt(example: Example, device: torch.device) -> Prompt:
    """An example's ids as tensors on the device."""
    parts = (example.prefix, example.context, example.query)
    tensors = [torch.tensor(ids, dtype=torch.int64, device=device) for ids in parts]
    return Prompt(
        *tensors,
        new_tokens=example.new_tokens,
        start_tokens=example.start_tokens,
        characters=example.context_characters,
        seed=example.seed,
    )


def key_chunk(example: Example, spans: list[tuple[int, int]] | None) -> int | None:
    """The chunk that holds the first token of the needle; None without chunks or without a needle."""
    if spans is None or example.key_span is None:
        return None
    start = example.key_span[0]
    return next((i for i, (a, b) in enumerate(spans) if a <= start < b), None)


def key_depth(example: Example) -> float | None:
    """Where the needle begins, as a share of the context; None without a needle."""
    return None if example.key_span is None else example.key_span[0] / len(example.context)
