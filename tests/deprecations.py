"""Makes an error of what libraries say in a log line alone: a call of ours that a later version will refuse."""

import logging
import re

# gives loggers their `warning_once`
import transformers.utils.logging  # noqa: F401

__all__ = ["DeprecatedCall", "forbid_deprecated_calls"]

DEPRECATED = re.compile("deprecat|will be removed", re.IGNORECASE)
LIBRARIES = ("transformers", "huggingface_hub", "accelerate")


class DeprecatedCall(BaseException):
    """A library says that what was just called or read will go; no `except Exception` makes something else of it."""


class Raise(logging.Handler):
    """Raises where the line is logged, so that the traceback shows the call."""

    def emit(self, record):
        refuse(record.getMessage())


def refuse(message):
    if DEPRECATED.search(str(message)):
        raise DeprecatedCall(message)


def forbid_deprecated_calls():
    """From now on, and not only the first time: transformers says once a process what it says by `warning_once`."""
    for name in LIBRARIES:
        logging.getLogger(name).addHandler(Raise(logging.WARNING))
    once = logging.Logger.warning_once

    def warning_once(self, message, *args, **more):
        refuse(message)
        once(self, message, *args, **more)

    logging.Logger.warning_once = warning_once
