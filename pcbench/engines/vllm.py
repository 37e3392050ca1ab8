"""vLLM's offline API in a Python of its own, so that its torch need not be pcbench's."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from threading import Event, Timer
from typing import Any

from pcbench.engines.completion import Completion, Loads
from pcbench.errors import ConfigError, EngineError, EngineSlow, shown
from pcbench.json_text import parse_json

__all__ = ["VLLM"]

# of what its process says of its end
TAIL_BYTES = 1 << 16
BY_DIFFERENCE = (
    "vLLM keeps no statistics of requests: tokens_per_s is by the difference of two times, of the whole answer and of "
    "one token"
)


class VLLM:
    """A process with a model, which ends with `close`.

    Args:
        python: of an environment with vLLM.
        loads: what it loads.
        timeout_s: that loading, and then an answer, may take.

    Raises:
        EngineError: it does not start or cannot load the model; EngineSlow: not in time.
    """

    def __init__(self, python: str, loads: Loads, timeout_s: float) -> None:
        self.name, self.timeout_s = f"vllm:{python}", timeout_s
        if loads.model.startswith("random:"):
            raise EngineError(f"{self.name}: weights on a disk, got {loads.model}; name another model")
        # no file of its own: its folder would hide modules of other packages
        source = (files("pcbench.engines") / "vllm_process.py").read_text(encoding="utf-8")
        self.said = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self.process = subprocess.Popen(
                [python, "-c", source],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.said,
                # what it starts ends with it
                start_new_session=True,
            )
        except OSError as error:
            self.said.close()
            got = shown(error.strerror or type(error).__name__, 200)
            raise EngineError(f"{self.name}: a Python that starts, got {got}; try it in a shell") from None
        try:
            found = self._told({"model": loads.model, "dtype": loads.dtype, "tokens": loads.tokens})
        except BaseException:
            self.close()
            raise
        self.serving = f"vLLM {found.get('version')}"
        # the last prompt of which one token was asked, and the time of that
        self.before: tuple[list[int], float] | None = None

    @staticmethod
    def check(python: str, where: str) -> None:
        """Refuses what is no program.

        Raises:
            ConfigError: says so.
        """
        if shutil.which(python) is None:
            raise ConfigError(
                f"{where}: vllm:PYTHON, the python of an environment with vLLM, got {shown(python)}, which is no "
                "program; give its path"
            )

    def complete(self, ids: Sequence[int], new_tokens: int, *, fixed_length: bool = False) -> Completion:
        """As `Engine` says; the time to the first token is that of a call for one token."""
        found = self._told({"ids": list(ids), "new_tokens": new_tokens, "fixed_length": fixed_length})
        if found["prompt_tokens"] != len(ids):
            got = f"a prompt of {len(ids)} tokens read as it was sent, got {found['prompt_tokens']} tokens read"
            raise EngineError(f"{self.name}: {got}")
        later, decode_ms, warning = len(found["tokens"]) - 1, found["decode_ms"], None
        if decode_ms is None and later > 0 and self.before is not None and self.before[0] == list(ids):
            decode_ms = found["ms"] - self.before[1]
            warning = BY_DIFFERENCE if decode_ms > 0 else None
        self.before = (list(ids), found["ms"]) if new_tokens == 1 else None
        return Completion(
            tokens=found["tokens"],
            text=found["text"],
            first_ms=found["ms"],
            tokens_per_s=later / decode_ms * 1e3 if later > 0 and decode_ms and decode_ms > 0 else None,
            prefill_ms=found["prefill_ms"],
            cached_tokens=found["cached_tokens"],
            warning=warning,
        )

    def _told(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The answer to a line."""
        assert self.process.stdin is not None, "a pipe"
        assert self.process.stdout is not None, "a pipe"
        late = Event()
        timer = Timer(self.timeout_s, self._stop, (late,))
        timer.daemon = True
        timer.start()
        try:
            self.process.stdin.write(json.dumps(asked).encode() + b"\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = b""
        finally:
            timer.cancel()
        if late.is_set():
            got = f"an answer within {self.timeout_s:g} s, got none"
            raise EngineSlow(f"{self.name}: {got}; raise suite.engine_timeout_s")
        if not line.endswith(b"\n"):
            raise EngineError(f"{self.name}: an answer, got the end of its process: {self._last_words()}")
        found = parse_json(line.decode("utf-8", "replace"), self.name, error=EngineError, remedy="see what it prints")
        if not isinstance(found, dict) or "error" in found:
            said = found.get("error") if isinstance(found, dict) else found
            raise EngineError(f"{self.name}: vLLM with the model, got {shown(said, 200)}; try it in that environment")
        return found

    def _last_words(self) -> str:
        """The last line of what the process printed besides."""
        self.process.wait()
        self.said.seek(max(0, self.said.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = self.said.read().decode("utf-8", "replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return shown(said[-1] if said else f"exit status {self.process.returncode}", 200)

    def _stop(self, late: Event) -> None:
        late.set()
        self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends the process and what it has started."""
        self._kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.said):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
