"""kvpress: any press of NVIDIA's library, by its own code, the model's own and torch's SDPA."""

from pcbench.methods.kvpress.method import KVPress

__all__ = ["KVPress"]
