"""One offline HTML file from the records of one or more runs."""

from pcbench.report.apart import load_matplotlib

load_matplotlib()

# it draws, so what it draws with is loaded before
from pcbench.report.history import build_history  # noqa: E402
from pcbench.report.html import build  # noqa: E402
from pcbench.report.leaderboard import build_leaderboard  # noqa: E402

__all__ = ["build", "build_history", "build_leaderboard"]
