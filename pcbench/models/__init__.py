"""Hugging Face decoders seen through `ModelRunner`: any RoPE model with the attention interface."""

from pcbench.models.catalog import load_runner, load_tokenizer, model_spec

__all__ = ["load_runner", "load_tokenizer", "model_spec"]
