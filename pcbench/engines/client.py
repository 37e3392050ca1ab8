"""JSON over HTTP with a time limit for every answer, whole or as server-sent events."""

import http.client
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Timer
from typing import Any
from urllib.parse import urlsplit

from pcbench.errors import EngineError, EngineSlow, shown
from pcbench.json_text import parse_json

__all__ = ["Client"]

KEY = "PCBENCH_ENGINE_KEY"
# of an answer, and of a line of one, at most
ANSWER_BYTES, LINE_BYTES = 1 << 26, 1 << 24


class Client:
    """A server.

    Args:
        url: of its root, http or https.
        timeout_s: that an answer may take.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url, self.timeout_s = url, timeout_s
        self.parts = urlsplit(url)

    def get(self, path: str) -> Any:
        """What a path holds.

        Raises:
            EngineError: the server is not there or answers no JSON; EngineSlow: not in time.
        """
        with self._asked("GET", path) as (response, _):
            return self._parsed(response.read(ANSWER_BYTES), path)

    def events(self, path: str, body: dict[str, Any]) -> Iterator[tuple[float, Any]]:
        """The events of an answer as they arrive.

        Args:
            path: that is asked; body: of the request.

        Yields:
            Milliseconds since the request was sent, over a connection that stood, and the event; the last is None
            where the server says that it has ended.

        Raises:
            EngineError: as of `get`, or the answer ends inside an event; EngineSlow: it has not ended in time.
        """
        with self._asked("POST", path, body) as (response, start):
            while line := response.readline(LINE_BYTES):
                ms = (time.perf_counter() - start) * 1e3
                if not line.endswith(b"\n"):
                    raise EngineError(f"{self.url}: whole lines of events, got one that was cut off; see the server")
                name, _, value = line.partition(b":")
                if name == b"error":
                    raise EngineError(f"{self.url}: an answer, got {shown(_said(value))}; see the server")
                if name != b"data":
                    continue
                if value.strip() == b"[DONE]":
                    yield ms, None
                    return
                yield ms, self._parsed(value, path)

    @contextmanager
    def _asked(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> Iterator[tuple[http.client.HTTPResponse, float]]:
        """An answer that has begun, and when it was asked for."""
        secure = self.parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self.parts.hostname or "", self.parts.port, timeout=self.timeout_s)
        late, timer = Event(), None
        try:
            connection.connect()
            timer = Timer(self.timeout_s, _cut, (connection.sock, late))
            timer.daemon = True
            timer.start()
            start = time.perf_counter()
            connection.request(method, self.parts.path.rstrip("/") + path, json.dumps(body) if body else None, _head())
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                said = _said(response.read(LINE_BYTES))
                raise EngineError(f"{self.url}{path}: an answer, got {response.status}: {shown(said, 200)}")
            yield response, start
            if late.is_set():
                # what was cut off may look like an end
                raise TimeoutError
        except (OSError, http.client.HTTPException, UnicodeError, EngineError) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                got = f"an answer within {self.timeout_s:g} s, got none"
                raise EngineSlow(f"{self.url}{path}: {got}; raise suite.engine_timeout_s or see the server") from None
            if isinstance(error, EngineError):
                raise
            got = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise EngineError(f"{self.url}: a server that answers, got {got}; start it, or name another") from None
        finally:
            if timer is not None:
                timer.cancel()
            connection.close()

    def _parsed(self, data: bytes, path: str) -> Any:
        text = data.decode("utf-8", "replace")
        return parse_json(text, f"{self.url}{path}", error=EngineError, remedy="is it a server of this kind?")


def _cut(sock: socket.socket, late: Event) -> None:
    """Ends whatever waits for a server."""
    late.set()
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _head() -> dict[str, str]:
    """Of a request; the server's key, where it wants one, is in the environment."""
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise EngineError(f"{KEY}: a key of printable ASCII letters, got others; mend it")
    head = {"Content-Type": "application/json", "Connection": "close"}
    return head | ({"Authorization": f"Bearer {key}"} if key else {})


def _said(data: bytes) -> str:
    """What a server says of an error, in whichever of the usual forms."""
    text = data.decode("utf-8", "replace").strip()
    try:
        found = json.loads(text)
    except ValueError:
        return text
    for key in ("error", "message", "detail"):
        found = found.get(key, found) if isinstance(found, dict) else found
    return found if isinstance(found, str) else text
