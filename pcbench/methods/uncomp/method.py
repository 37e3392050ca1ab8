"""The method: an eviction method whose budgets come from an entropy table."""

from pcbench.methods.eviction import Eviction
from pcbench.methods.uncomp.config import Config

__all__ = ["UNComp"]


class UNComp(Eviction):
    """What the prompt's last queries attend to, more of it in heads of higher entropy: UNComp, arXiv:2410.03090."""

    Config = Config
