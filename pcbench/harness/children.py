"""Child processes that start in a moment: forked from a server that has only imported what they need."""

from multiprocessing import get_context
from multiprocessing.context import ForkServerContext

__all__ = ["children"]


def children() -> ForkServerContext:
    """The context to start children from; the server itself never computes, so forking it is safe."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["pcbench.harness.session"])
    return context
