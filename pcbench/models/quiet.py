"""Other libraries in one line: what their errors say, and nothing of what they log beside them."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging

__all__ = ["quietly", "said"]

# of what another library says
MOST_LETTERS = 240
LIBRARIES = ("transformers", "huggingface_hub", "accelerate", "bitsandbytes", "torchao", "torch.utils._pytree")


@contextmanager
def quietly() -> Iterator[None]:
    """Nothing of what libraries log or warn while they read a model reaches the terminal; errors are raised.

    Only what prints is taken away: handlers of other kinds, and filters that make errors of warnings, still see all.
    """
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    try:
        for logger in loggers:
            others = [handler for handler in logger.handlers if not isinstance(handler, logging.StreamHandler)]
            # without any handler the last resort prints
            logger.handlers, logger.propagate = [logging.NullHandler(), *others], False
        with warnings.catch_warnings(record=True):
            yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        if shown:
            transformers_logging.enable_progress_bar()


def said(error: BaseException) -> str:
    """What an error says in one line, with its kind where its words alone do not tell it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # a line that ends so announces the next one
    count = 2 if lines and lines[0].endswith(":") else 1
    words = " ".join(lines[:count]).rstrip(".:;")[:MOST_LETTERS]
    if isinstance(error, OSError | ValueError) and words:
        return words
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
