"""ParallelComp: prefills chunks separately, keeps those that predict the query best, reads the query over them.

Source: arXiv:2502.14317v2 (ICML 2025). Where paper and released code differ: chunks are cut by tokens,
scores are float32 means, tokens are selected per kv-head, and keys are evicted before the softmax; the released
code's ways are switches of the config, and `switches.toml` says which of its options is which key.
"""

from pcbench.methods.parallel_comp.config import Config, Eviction, Rule
from pcbench.methods.parallel_comp.method import ParallelComp

__all__ = ["Config", "Eviction", "ParallelComp", "Rule"]
