"""What records of official files have in common."""

from pydantic import ConfigDict

from pcbench.config import Table

__all__ = ["Record"]


class Record(Table):
    """A record; keys that nobody reads may stand in it."""

    model_config = ConfigDict(extra="ignore")
