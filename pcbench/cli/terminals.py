"""Where the command line prints."""

import sys

from pcbench.system.terminal import Terminal

__all__ = ["err", "out"]

# a table in a file or a pipe is not squeezed into 80 columns
out = Terminal(width=None if sys.stdout.isatty() else 200)
err = Terminal(stderr=True)
