"""Serving engines: programs that prefill and decode given token ids by code of their own, in a process of their own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from pcbench.engines.completion import Completion, Loads
from pcbench.engines.openai import OpenAI
from pcbench.engines.vllm import VLLM
from pcbench.errors import ConfigError, shown

__all__ = ["Completion", "Engine", "Loads", "opened", "parsed"]


class Engine(Protocol):
    """An engine that is ready.

    Attributes:
        serving: the model and, where it tells, the program, as the engine names them.
    """

    serving: str

    def complete(self, ids: Sequence[int], new_tokens: int, *, fixed_length: bool = False) -> Completion:
        """The most likely tokens after a prompt, none of which is taken from a cache where the engine can be asked so.

        Args:
            ids: of the whole prompt.
            new_tokens: at most.
            fixed_length: whether nothing else ends the answer.

        Raises:
            EngineError: it did not answer as it should; EngineSlow: not in time.
        """

    def close(self) -> None:
        """Lets go of it."""


# how an engine is reached → what reaches it: of an address, what it loads, and the seconds that an answer may take
KINDS: Mapping[str, Callable[[str, Loads, float], Engine]] = {"openai": OpenAI, "vllm": VLLM}
CHECKS: Mapping[str, Callable[[str, str], None]] = {"openai": OpenAI.check, "vllm": VLLM.check}


def parsed(engine: str, where: str = "--engine") -> tuple[str, str]:
    """The kind of an engine and its address.

    Args:
        engine: as `openai:http://127.0.0.1:8000` or `vllm:/opt/vllm/bin/python`.
        where: the head of the message.

    Raises:
        ConfigError: no engine is named so.
    """
    kind, _, address = engine.partition(":")
    if kind not in KINDS or not address.strip():
        raise ConfigError(f"{where}: openai:URL or vllm:PYTHON, got {shown(engine)}; name a server or a program")
    CHECKS[kind](address, where)
    return kind, address


@contextmanager
def opened(engine: str, loads: Loads, timeout_s: float) -> Iterator[Engine]:
    """An engine while it is used.

    Args:
        engine: as for `parsed`.
        loads: what it loads where it does not run yet.
        timeout_s: that an answer may take.

    Raises:
        EngineError: it is not there, or serves nothing; EngineSlow: it does not say so in time.
    """
    kind, address = parsed(engine)
    ready = KINDS[kind](address, loads, timeout_s)
    try:
        yield ready
    finally:
        ready.close()
