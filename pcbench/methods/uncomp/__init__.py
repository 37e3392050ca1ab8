"""UNComp: heads of higher matrix entropy keep more of what the last queries attend to.

Source: arXiv:2410.03090 (EMNLP 2025) and its released code (commit b3e9f7b). Here tokens are kept by kv-head, whose
entropy is the mean over its query heads; heads are ordered by mean entropies, not by votes of samples; while decoding,
the token with the least attention goes and keys stay in the order of the text for the pool of the prompt.
"""

from pcbench.methods.uncomp.config import Config
from pcbench.methods.uncomp.method import UNComp

__all__ = ["Config", "UNComp"]
