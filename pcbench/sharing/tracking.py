"""Cells of a run in an experiment tracker as they finish; nothing is imported unless one was asked for."""

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from pcbench.errors import ConfigError, shown
from pcbench.suites.labels import labels
from pcbench.types import Record, placed, weighed

__all__ = ["NUMBERS", "TRACKERS", "Tracker"]

# packages whose `init`, `log` and `finish` mean the same → so that they sample no machine beside what is timed
TRACKERS: dict[str, dict[str, Any]] = {
    "trackio": {"auto_log_cpu": False, "auto_log_gpu": False},
    "wandb": {"settings": {"x_disable_stats": True}},
}
PROJECT = "pcbench"
NUMBERS = (
    *("ms_p50", "ms_ci_low", "ms_ci_high", "prefill_tokens_per_s", "decode_ms_per_token", "peak_bytes", "kv_bytes"),
    *("speedup_vs_full", "speedup_vs_full_ci_low", "speedup_vs_full_ci_high", "decode_speedup_vs_full"),
    *("speedup_vs_reference", "speedup_vs_baseline", "tflops", "gib_per_s"),
    *("served_ms_p50", "served_ms_ci_low", "served_ms_ci_high", "served_prefill_ms", "served_tokens_per_s"),
    *("score", "score_ci_low", "score_ci_high", "score_vs_full", "nll", "perplexity", "nll_vs_full"),
)
# of a run's first record
CONFIG = ("suite", "kind", "model", "device", "dtype", "gpu", "arch", "torch", "runtime", "commit", "dirty")


class Tracker:
    """A run of a tracker, begun with the first cell. Where it fails, that is told once and stops nothing else.

    Args:
        name: of `TRACKERS`.
        say: takes a line.

    Raises:
        ConfigError: there is no such tracker, or its package is not installed.
    """

    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        if name not in TRACKERS:
            raise ConfigError(f"--log: {' or '.join(TRACKERS)}, got {shown(name)}; leave it out to log nothing")
        if find_spec(name) is None:
            raise ConfigError(f"--log: the package {name}, got none; pip install {name}, or leave --log out")
        self.name = name
        self._say = say
        self._module: Any = None
        self._logged: set[str] = set()
        self._failed = False

    def __call__(self, name: str, record: Record) -> None:
        """Logs the numbers of a cell, once.

        Args:
            name: what people call the cell.
            record: of it.
        """
        if record.cell not in self._logged and not self._failed:
            self._logged.add(record.cell)
            self._guarded(lambda: self._log(name, record))

    def finish(self, records: Sequence[Record]) -> None:
        """Logs what was not logged yet, as averages and the cells of other ranks, and ends the tracker's run.

        Args:
            records: of the whole run.
        """
        for label, record in zip(labels(records), records, strict=True):
            self(placed(weighed(label, record.quantize), record.workload, record.context_tokens), record)
        if self._module is not None and not self._failed:
            self._guarded(self._module.finish)

    def _log(self, name: str, record: Record) -> None:
        if self._module is None:
            module = import_module(self.name)
            config = {key: getattr(record, key) for key in CONFIG}
            module.init(project=PROJECT, name=record.run, config=config, **TRACKERS[self.name])
            self._module = module
        found = {key: value for key in NUMBERS if (value := getattr(record, key)) is not None}
        self._module.log(
            {f"{name}/{key}": value for key, value in ({"ok": int(record.status == "ok")} | found).items()}
        )

    def _guarded(self, call: Callable[[], object]) -> None:
        """What a tracker prints goes to stderr: the last lines on stdout are the run's own."""
        try:
            with redirect_stdout(sys.stderr):
                call()
        except Exception as error:
            self._failed = True
            said = " ".join(str(error).split()) or type(error).__name__
            self._say(f"--log: {self.name} ended with {said}; the run goes on, its records are in its folder")
