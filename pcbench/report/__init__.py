"""One offline HTML file from the records of one or more runs."""

from pcbench.report.html import build

__all__ = ["build"]
