"""Prompts that cannot fit in this machine: refused when a run is planned."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from pcbench.errors import ConfigError
from pcbench.harness.kinds import machine
from pcbench.harness.kinds.methods.cells import Prepared
from pcbench.models.layers.quantize import SCHEMES
from pcbench.tasks.base import FileTask
from pcbench.types import ModelSpec

__all__ = ["check_prompts", "weight_bytes_of"]

# of a token at least: an entry of every prompt's tuple, of one tensor, and two letters of the hashed text, twice
TUPLE_BYTES, PROMPT_BYTES = 8, 12


def check_prompts(where: str, cells: Sequence[Prepared], spec: ModelSpec) -> None:
    """Refuses generated prompts that cannot fit beside their keys, their values and the model's weights.

    A GPU has room of its own for all but the prompts, and a device map may leave weights on the disk.

    Args:
        where: the suite's file.
        cells: of a run.
        spec: their model.

    Raises:
        ConfigError: with the longest context that would fit, or where none would.
    """
    memory = machine.memory_bytes()
    for prepared in cells:
        cell = prepared.cell
        # a record is as long as it is
        if isinstance(prepared.task, FileTask):
            continue
        needed = partial(_bytes, prepared=prepared, spec=spec)
        tokens = cell.context_tokens
        assert tokens is not None, "a method reads a context"
        if needed(0) > memory:
            raise ConfigError(
                f"{where}: suite.model: weights that fit in the {memory / 2**30:.0f} GiB of this machine, got "
                f"{needed(0) / 2**30:.0f} GiB of {spec.name} in {cell.dtype}; choose a smaller model"
            )
        if needed(tokens) > memory:
            raise ConfigError(
                f"{where}: context_tokens of {cell.name}: at most {_most(needed, memory, tokens)}, whose prompt and "
                f"keys take, with the weights, the {memory / 2**30:.0f} GiB of this machine, got {tokens}; shorten it"
            )


def _bytes(tokens: int, prepared: Prepared, spec: ModelSpec) -> int:
    """Of this machine that a cell of so many tokens takes at least."""
    cell = prepared.cell
    prompts = (TUPLE_BYTES * prepared.effort.repeats + PROMPT_BYTES) * tokens
    if cell.device != "cpu":
        return prompts
    itemsize = getattr(torch, cell.dtype).itemsize
    weights = 0 if prepared.effort.device_map else weight_bytes_of(prepared, spec)
    return prompts + weights + spec.kv_bytes(prepared.cost(spec, tokens).kv_tokens, itemsize)


def weight_bytes_of(prepared: Prepared, spec: ModelSpec) -> int:
    """Of a cell's model, about: quantised are all weights but those of embedding and head."""
    cell = prepared.cell
    itemsize = getattr(torch, cell.dtype).itemsize
    if cell.quantize is None:
        return spec.parameters * itemsize
    inner = spec.parameters - spec.outer_parameters
    return spec.outer_parameters * itemsize + SCHEMES[cell.quantize].nbytes(1, inner, scale_bytes=4)


def _most(needed: Callable[[int], int], memory: int, too_many: int) -> int:
    """The largest number of tokens whose bytes fit."""
    fits = 0
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if needed(middle) <= memory else (fits, middle)
    return fits
