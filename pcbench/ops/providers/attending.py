"""Ops whose attention of chunks is a library's where one can compute it, and our own elsewhere."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from pcbench.errors import BackendUnavailable, first_line, unknown_name
from pcbench.ops.fakes import refuse_gradients
from pcbench.ops.no_memory import is_out_of_memory
from pcbench.ops.providers.choice import OWN, Case, Times, TimesFile, fastest, nearest, times_file
from pcbench.ops.providers.kernels import Kernel, find_kernel
from pcbench.ops.providers.libraries import PROVIDERS
from pcbench.ops.providers.versions import code
from pcbench.reference.attention import check_calibrated_attention
from pcbench.reference.packing import are_of_heads
from pcbench.types import Ops

__all__ = ["AUTO", "Attending", "measured"]

AUTO = "auto"
ROUNDS = 5

Call = Callable[[], object]


class Attending:
    """The ops of a backend, with `calibrated_attention` by another kernel: implements `pcbench.types.Ops`.

    A library computes causal calls of as many keys as rows without evicted keys and without an incoming state, and
    `key_mass` of the backend their mass. All other calls are the backend's own.

    Args:
        ops: of a compiled backend.
        name: of `pcbench.config.Attention`.

    Raises:
        ConfigError: there is no such attention.
        BackendUnavailable: this machine lacks what it needs.
    """

    def __init__(self, ops: Ops, name: str) -> None:
        if name not in (AUTO, OWN, *PROVIDERS):
            raise unknown_name("attention", "kernel", name, (AUTO, OWN, *PROVIDERS))
        self.ops, self.backend = ops, ops.backend
        self.device = "cpu" if ops.backend == "cpu" else "cuda"
        # on CPUs our own kernel is the fastest at every shape that was measured
        self.name = OWN if name == AUTO and self.device == "cpu" else name
        # calls that each kernel has computed
        self.used: Counter[str] = Counter()
        self.tried: dict[Case, Times] = {}
        # calls that were made to be timed
        self.trials = 0
        # libraries that a small call showed to be of no use
        self.unfit: dict[str, str] = {}
        self.measures = True
        if name in PROVIDERS and (reason := PROVIDERS[name].why_not(self.device)):
            raise _unavailable(name, reason)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ops, name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.backend!r}, {self.name!r})"

    @property
    def kernels(self) -> str | None:
        """The kernels that have computed calls, that of the most first; None where there were no calls."""
        return ", ".join(name for name, _ in self.used.most_common()) or None

    @property
    def ms(self) -> dict[str, float] | None:
        """Milliseconds of a call by each kernel that was tried, in the largest case; None where none was tried."""
        largest = max(self.tried, key=lambda case: (case.batch * case.rows, case.mass_rows), default=None)
        return None if largest is None else self.tried[largest].ms

    @property
    def warnings(self) -> list[str]:
        """Of times that could not be read, kept or taken."""
        refused = self.unfit | {name: why for times in self.tried.values() for name, why in times.refused.items()}
        kept = times_file().warnings if self.tried else []
        return [*kept, *(f"attention by {name} gave no time: {why}" for name, why in refused.items())]

    def settle(self) -> None:
        """From now on nothing is measured: a new case has the choice of the nearest known one."""
        self.measures = False

    def calibrated_attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scale: float,
        causal: bool,
        query_lengths: Tensor | None = None,
        key_lengths: Tensor | None = None,
        evicted: Tensor | None = None,
        mass_rows: int = 0,
        out_in: Tensor | None = None,
        lse_in: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `pcbench.reference.calibrated_attention`."""
        own = partial(
            self.ops.calibrated_attention, q, k, v, scale=scale, causal=causal, query_lengths=query_lengths,
            key_lengths=key_lengths, evicted=evicted, mass_rows=mass_rows, out_in=out_in, lse_in=lse_in,
        )  # fmt: skip
        plain = causal and evicted is None and out_in is None and lse_in is None
        if self.name == OWN or not plain or not _is_square(q, k, v, self.device):
            return self._by(OWN, own)
        same = key_lengths is None if query_lengths is None else are_of_heads(key_lengths, query_lengths)
        if not same:
            return self._by(OWN, own)
        check_calibrated_attention(q, k, v, query_lengths, key_lengths, None, mass_rows, None, None)
        refuse_gradients("calibrated_attention", q, k, v)
        lengths = {"query_lengths": query_lengths, "key_lengths": key_lengths}

        def library(kernel: Kernel) -> tuple[Tensor, Tensor, Tensor]:
            out, lse = kernel(q, k, v, scale, query_lengths)
            if not mass_rows:
                return out, lse, lse.new_empty((*q.shape[:2], 0))
            mass = self.ops.key_mass(q, k, lse, scale=scale, causal=True, mass_rows=mass_rows, **lengths)
            return out, lse, mass

        kernels = self._kernels(q)
        calls: dict[str, Call] = {OWN: own, **{name: partial(library, kernel) for name, kernel in kernels.items()}}
        name = self._choose(q, k, mass_rows, query_lengths is not None, calls) if self.name == AUTO else self.name
        return self._by(name, calls[name])

    def _by(self, name: str, call: Call) -> tuple[Tensor, Tensor, Tensor]:
        self.used[name] += 1
        return call()  # type: ignore[return-value]

    def _kernels(self, q: Tensor) -> dict[str, Kernel]:
        """What can compute a call: the named library, or of all those that can."""
        at = q.device, q.dtype, q.shape[-1]
        if self.name == AUTO:
            able = [name for name, provider in PROVIDERS.items() if not provider.why_not(q.device.type, *at[1:])]
            found = {name: find_kernel(name, *at) for name in able}
            self.unfit |= {name: why for name, why in found.items() if isinstance(why, str)}
            return {name: kernel for name, kernel in found.items() if isinstance(kernel, Kernel)}
        kernel = find_kernel(self.name, *at)
        if isinstance(kernel, str):
            raise _unavailable(self.name, kernel)
        return {self.name: kernel}

    def _choose(self, q: Tensor, k: Tensor, mass_rows: int, ragged: bool, calls: Mapping[str, Call]) -> str:
        """The fastest of the calls, by times of the file or taken now."""
        where = {"gpu": torch.cuda.get_device_name(q.device), "torch": torch.__version__, "code": code(self.backend)}
        what = {"dtype": str(q.dtype).removeprefix("torch."), "mass_rows": mass_rows, "ragged": ragged}
        case = Case.of(tuple(q.shape), k.shape[1], **where, **what)
        if case not in self.tried:
            if not self.measures:
                return fastest(nearest(case, self.tried))
            self.tried[case] = measured(times_file(), case, calls, partial(self._tried_ms, q.device))
        return fastest(self.tried[case].ms)

    def _tried_ms(self, device: torch.device, call: Call) -> float:
        self.trials += 1
        return _device_ms(device, call)


def measured(file: TimesFile, case: Case, calls: Mapping[str, Call], once: Callable[[Call], float]) -> Times:
    """Times of a case from the file, or taken in turns and put there; not where one found no memory, as it may later.

    Args:
        file: of times.
        case: what the calls compute.
        calls: by name.
        once: milliseconds of a call.
    """
    known = file.get(case)
    if known is not None and known.covers(tuple(calls)):
        return known
    samples: dict[str, list[float]] = {name: [] for name in calls}
    refused: dict[str, str] = {}
    lasting = True
    # the first round is a warm-up: what only a first call does is in it
    for _ in range(1 + ROUNDS):
        for name in [name for name in calls if name not in refused]:
            try:
                samples[name].append(once(calls[name]))
            except RuntimeError as error:
                # our own kernel has to run
                if name == OWN:
                    raise
                refused[name] = first_line(error)
                lasting = lasting and not is_out_of_memory(error)
    times = Times({name: median(ms[1:]) for name, ms in samples.items() if name not in refused}, refused)
    if lasting:
        file.put(case, times)
    return times


def _device_ms(device: torch.device, call: Call) -> float:
    """Milliseconds of a call by events of the device."""
    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))


def _is_square(q: Tensor, k: Tensor, v: Tensor, device: str) -> bool:
    """Whether there are as many keys as rows, and any, of a dtype that libraries may take."""
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    return (
        q.dim() == k.dim() == v.dim() == 4
        and q.device.type == device
        and q.dtype in dtypes
        and q.shape[2] == k.shape[2]
        and q.numel() > 0
    )


def _unavailable(name: str, reason: str) -> BackendUnavailable:
    return BackendUnavailable(f'attention: {name} must be able to run here, got: {reason}; take "own"', {name: reason})
