"""A running server with OpenAI's completions: vLLM, SGLang, llama.cpp and others, asked for token ids.

Sources: the servers' own documentation. vLLM: `cache_salt`, `return_token_ids`, `usage.prompt_tokens_details` with
--enable-prompt-tokens-details. SGLang: `cache_salt`, --disable-radix-cache, --enable-cache-report. llama.cpp's
llama-server: `POST /completion` with `return_tokens`, `cache_prompt` and `timings`.
"""

import secrets
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from pcbench.engines.client import Client
from pcbench.engines.completion import Completion, Loads
from pcbench.errors import ConfigError, EngineError, shown

__all__ = ["OpenAI"]


# tokens, and milliseconds: what a server says beyond them is not believed
MOST = 10**12
# the most likely token, whatever a server or its model's generation config has as a default
GREEDY = {"temperature": 0, "presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1, "repeat_penalty": 1}
# letters of a model's name
LONGEST = 200


class OpenAI:
    """A server that is running.

    Args:
        address: its URL, with or without /v1, and #MODEL where it serves several.
        loads: nothing, as it has loaded what it serves.
        timeout_s: that an answer may take.

    Raises:
        EngineError: it does not answer, or serves no such model; EngineSlow: not in time.
    """

    def __init__(self, address: str, loads: Loads, timeout_s: float) -> None:
        url, _, wanted = address.partition("#")
        self.client = Client(url.rstrip("/").removesuffix("/v1"), timeout_s)
        found = self._models()
        self.model = wanted or next(iter(found))
        if wanted not in found and (wanted or len(found) > 1):
            names = shown(", ".join(found), 200)
            got = f"#{wanted}" if wanted else "none named"
            raise EngineError(f"{self.client.url}: one of its models, {names}, got {got}; add #MODEL to the URL")
        # llama.cpp tells token ids and its own times behind a path of its own
        self.native = found[self.model] == "llamacpp"
        owner, name = found[self.model], self.model
        # a file's name says what it is, its folder where it lies
        name = name.rpartition("/")[2] if name.startswith("/") else name
        self.serving = (f"{name} ({owner})" if owner else name)[:LONGEST]

    @staticmethod
    def check(address: str, where: str) -> None:
        """Refuses what is no URL of a server.

        Raises:
            ConfigError: says why.
        """
        try:
            parts = urlsplit(address)
            whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            whole = False
        if not whole or parts.query or parts.username is not None:
            raise ConfigError(
                f"{where}: openai:http://HOST:PORT without user, password or query, got {shown(address)}; a server's "
                "key goes into PCBENCH_ENGINE_KEY"
            )

    def _models(self) -> dict[str, str]:
        """The models that it serves, and who it says owns them."""
        data = self.client.get("/v1/models")
        rows = data.get("data") if isinstance(data, dict) else None
        named = [row for row in rows or () if isinstance(row, dict) and isinstance(row.get("id"), str)]
        if not named:
            got = f"a list of models at /v1/models, got {shown(data)}"
            raise EngineError(f"{self.client.url}: {got}; is it a server with OpenAI's API?")
        return {row["id"]: str(row.get("owned_by") or "") for row in named}

    def complete(self, ids: Sequence[int], new_tokens: int, *, fixed_length: bool = False) -> Completion:
        """As `Engine` says."""
        answer = Answer()
        ask = self._native if self.native else self._openai
        for ms, event in ask(ids, new_tokens, fixed_length):
            if not isinstance(event, dict):
                raise EngineError(f"{self.client.url}: JSON objects as events, got {shown(event)}; see the server")
            if event.get("error") is not None:
                raise EngineError(f"{self.client.url}: an answer, got {shown(event['error'], 200)}; see the server")
            answer.take(ms, event)
        return answer.whole(self.client.url, len(ids))

    def _openai(self, ids: Sequence[int], new_tokens: int, fixed_length: bool) -> Iterator[tuple[float, Any]]:
        body = {
            "model": self.model,
            "prompt": list(ids),
            "max_tokens": new_tokens,
            "ignore_eos": fixed_length,
            **GREEDY,
            "return_token_ids": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            **uncached(),
        }
        for ms, event in self.client.events("/v1/completions", body):
            if event is None:
                return
            yield ms, event
        raise self._cut()

    def _native(self, ids: Sequence[int], new_tokens: int, fixed_length: bool) -> Iterator[tuple[float, Any]]:
        body = {
            "prompt": list(ids),
            "n_predict": new_tokens,
            "ignore_eos": fixed_length,
            **GREEDY,
            "return_tokens": True,
            "stream": True,
            **uncached(),
        }
        for ms, event in self.client.events("/completion", body):
            yield ms, event
            if isinstance(event, dict) and event.get("stop") is True:
                return
        raise self._cut()

    def _cut(self) -> EngineError:
        return EngineError(f"{self.client.url}: an answer to its end, got one that was cut off; see the server")

    def close(self) -> None:
        """A server stays."""


def uncached() -> dict[str, Any]:
    """Of a request: no token of the prompt out of a cache, as llama.cpp is told, and as vLLM and SGLang are."""
    return {"cache_prompt": False, "cache_salt": secrets.token_hex(16)}


class Answer:
    """An answer as its events arrive."""

    def __init__(self) -> None:
        self.tokens: list[int] | None = []
        self.text = ""
        # milliseconds at the first event with tokens and at the last, and tokens of the first
        self.first_ms: float | None = None
        self.last_ms = 0.0
        self.end_ms: float | None = None
        self.of_first = 1
        self.usage: dict[str, Any] = {}
        self.timings: dict[str, Any] = {}
        self.read: Any = None

    def take(self, ms: float, event: dict[str, Any]) -> None:
        """One event, of either form."""
        choices = event.get("choices")
        part = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else event
        text, ids = part.get("text", part.get("content")), part.get("token_ids", part.get("tokens"))
        for name in ("usage", "timings"):
            if isinstance(found := event.get(name), dict):
                setattr(self, name, found)
        self.read = event.get("tokens_evaluated", self.read)
        if not text and not ids:
            # an answer may be nothing but its end
            self.end_ms = ms if part.get("finish_reason") or part.get("stop") is True else self.end_ms
            return
        self.text += text if isinstance(text, str) else ""
        told = isinstance(ids, list) and all(type(x) is int for x in ids)
        if self.first_ms is None:
            self.first_ms, self.of_first = ms, len(ids) if told and ids else 1
        self.last_ms = ms
        self.tokens = self.tokens + ids if told and self.tokens is not None and ids is not None else None

    def whole(self, url: str, prompt_tokens: int) -> Completion:
        """What it says once it has ended.

        Raises:
            EngineError: it is empty, or is one to another prompt.
        """
        first_ms = self.end_ms if self.first_ms is None else self.first_ms
        if first_ms is None:
            raise EngineError(f"{url}: a token or an end, got an empty answer; see the server")
        read = _count(self.usage.get("prompt_tokens", self.read))
        if read is not None and read != prompt_tokens:
            raise EngineError(f"{url}: a prompt of {prompt_tokens} tokens read as it was sent, got {read} tokens read")
        details = self.usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else self.timings.get("cache_n")
        count = _count(self.usage.get("completion_tokens")) if self.tokens is None else len(self.tokens)
        later, ms = (count or 0) - self.of_first, self.last_ms - first_ms
        prefill = self.timings.get("prompt_ms")
        return Completion(
            tokens=self.tokens,
            text=self.text,
            first_ms=first_ms,
            tokens_per_s=later / ms * 1e3 if later > 0 and ms > 0 else None,
            prefill_ms=float(prefill) if isinstance(prefill, int | float) and 0 < prefill < MOST else None,
            cached_tokens=_count(cached),
        )


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < MOST else None
