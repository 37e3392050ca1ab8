"""Hugging Face decoders seen through `ModelRunner`: any RoPE model with the attention interface."""

from pcbench.models.catalog import load_runner, model_spec

__all__ = ["load_runner", "model_spec"]
