"""The attention of chunks by the best kernel there is: our own, or a library's that gives its log-sum-exp."""

from pcbench.ops.providers.attending import AUTO, Attending
from pcbench.ops.providers.choice import OWN
from pcbench.ops.providers.libraries import PROVIDERS

__all__ = ["AUTO", "OWN", "PROVIDERS", "Attending"]
