"""Ctrl-C and SIGTERM: one line and exit 130 or 143, at any moment and however often they come.

Imports nothing heavy: it is settled before the rest of the program is loaded.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pcbench.errors import Interrupted

__all__ = ["guard", "tidily", "told"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# what swallows an interruption, or hangs while it tidies up, has so long
PATIENCE_S = 5.0
SHOW_CURSOR = b"\x1b[?25h"


class _State:
    """What the handler knows: the first signal, whether there is something to tidy up, whether the line was printed."""

    sent: int = 0
    tidy = False
    told = False


def guard() -> None:
    """From now on a signal ends this process; those that it was started to ignore stay ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)
    read, write = os.pipe()
    os.set_blocking(write, False)
    # told at once, also while the main thread is in a call that no handler interrupts
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read,), daemon=True).start()


@contextmanager
def tidily() -> Iterator[None]:
    """Until the end of a `with` a signal is a KeyboardInterrupt within, so that nothing half done is left.

    Raises:
        Interrupted: there was one.
    """
    _State.tidy = True
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("pcbench: interrupted") from None
    finally:
        _State.tidy = False


def told() -> int:
    """Says that the line was printed; the exit code of a process that was interrupted: 128 and the signal."""
    _State.told = True
    for number in SIGNALS:
        # while Python ends it would have its own way with them
        signal.signal(number, signal.SIG_IGN)
    return _code()


def _code() -> int:
    return 128 + (_State.sent or signal.SIGINT)


def _handle(number: int, _: FrameType | None) -> None:
    if _State.sent:
        return
    _State.sent = number
    if not _State.tidy:
        _end()
    raise KeyboardInterrupt


def _watch(read: int) -> None:
    """Ends the process some time after a signal, whatever became of it."""
    while signal.getsignal(os.read(read, 1)[0]) is not _handle:
        pass
    time.sleep(PATIENCE_S)
    _end()


def _end() -> None:
    """At once: nothing catches it, and no second signal disturbs it."""
    line = b"" if _State.told else b"pcbench: interrupted\n"
    try:
        os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + line)
    finally:
        os._exit(_code())
