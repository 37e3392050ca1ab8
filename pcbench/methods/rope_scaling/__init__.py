"""Scaled rotary frequencies: position interpolation, NTK, dynamic NTK or YaRN, as in transformers."""

from pcbench.methods.rope_scaling.method import RopeScaling

__all__ = ["RopeScaling"]
