"""Parts of a context encoded next to each other behind shared first tokens, and read together by the question."""

from pcbench.methods.parallel_encoding.ape import APE
from pcbench.methods.parallel_encoding.star import StarAttention

__all__ = ["APE", "StarAttention"]
