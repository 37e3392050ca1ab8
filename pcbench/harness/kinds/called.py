"""What a method's config says of itself, asked so that another package's mistake is one line."""

from collections.abc import Callable
from typing import TypeVar

from pcbench.errors import ConfigError, PcbenchError, first_line
from pcbench.extensions import GUIDE
from pcbench.registry import METHODS

__all__ = ["called"]

T = TypeVar("T")


def called(method: str, name: str, call: Callable[[], T]) -> T:
    """What a call gives.

    Args:
        method: whose config is called, by its name; name: of what is called.

    Raises:
        ConfigError: the method is not pcbench's own and its code raised an error.
    """
    try:
        return call()
    except PcbenchError:
        raise
    except Exception as error:
        if method in METHODS.own:
            raise
        package = METHODS.package(method)
        whose = f"method {method}" + (f" of {package}" if package else "")
        what = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"{whose}: Config.{name} without an error, got {what}; {GUIDE}") from error
