"""Scaled rotary frequencies as in transformers: position interpolation, NTK, dynamic NTK, YaRN."""

from pcbench.methods.rope_scaling.method import RopeScaling

__all__ = ["RopeScaling"]
