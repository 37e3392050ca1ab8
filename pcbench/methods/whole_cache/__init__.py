"""What methods share that store every key and value of a prompt: reading it part by part, and tokens after it."""

from pcbench.methods.whole_cache.method import Part, State, WholeCache
from pcbench.methods.whole_cache.plan import FreshPlan, StoredPlan

__all__ = ["FreshPlan", "Part", "State", "StoredPlan", "WholeCache"]
