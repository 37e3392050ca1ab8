"""The one place that decides what running out of memory is."""

import torch

__all__ = ["is_out_of_memory"]

# how an allocator says that there is no more; the last is a compiled op's whose allocation failed without a word
NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "std::bad_alloc",
    "] must be there, got an error that a torch before 2.13 does not tell",
)


def is_out_of_memory(error: Exception) -> bool:
    """torch raises its own class on a GPU and a plain RuntimeError on a CPU; the compiled ops hand on its words."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(said in str(error) for said in NO_MEMORY)
