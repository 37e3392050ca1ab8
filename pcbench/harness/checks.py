"""`pcbench check`: every op of a device's backend against the float64 reference, over the cases of `measure.cases`."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pcbench import ops, reference
from pcbench.errors import unknown_name
from pcbench.measure.kernels.cases import CASES, check_case
from pcbench.measure.machine.devices import Build, resolve_device, torch_device
from pcbench.measure.parity import Comparison, worst
from pcbench.ops.libraries import DTYPES

__all__ = ["Verdict", "check_ops"]


@dataclass(frozen=True)
class Verdict:
    """One op in one dtype: passed, failed, or (None) no kernel here and why."""

    op: str
    dtype: str
    backend: str
    ok: bool | None
    cases: int
    detail: str

    def line(self) -> str:
        """As it is printed."""
        word = {True: "ok  ", False: "FAIL", None: "-   "}[self.ok]
        return f"{word} {self.op} {self.dtype} on {self.backend}: {self.detail}"


def check_ops(device: str, op: str | None = None) -> Iterator[Verdict]:
    """A verdict for every op and dtype of a device's backend.

    Args:
        device: auto, cpu, cuda or rocm.
        op: only this one.

    Raises:
        ConfigError: an unknown device or op.
        BackendUnavailable: the device is not there.
    """
    kind = resolve_device(device, Build.here())
    if op is not None and op not in reference.__all__:
        raise unknown_name("--op", "op", op, reference.__all__)
    backend = ops.automatic_backend(kind)
    for name in reference.__all__:
        for dtype in DTYPES:
            if op in (None, name):
                yield _check(name, dtype, backend, torch_device(kind))


@torch.inference_mode()
def _check(op: str, dtype: torch.dtype, backend: str, device: torch.device) -> Verdict:
    shown = str(dtype).removeprefix("torch.")
    reason = ops.why_not(backend, op, dtype=dtype)
    if reason:
        return Verdict(op, shown, backend, None, 0, reason)
    results: dict[str, Comparison] = {}
    cases = [case for case in CASES if case.op == op]
    for case in cases:
        found = check_case(case, ops.backend(backend), device, dtype)
        results |= {f"{case.name}: {result}": comparison for result, comparison in found.items()}
    wrong = {name: c for name, c in results.items() if not c.ok}
    last = worst(results)
    detail = f"{len(cases)} cases, largest error {last.err:.2g} of {last.bound:.2g}"
    if wrong:
        name, comparison = next(iter(wrong.items()))
        detail = f"{len(wrong)} of {len(results)} results, first: {name} {comparison.err:.3g} > {comparison.bound:.2g}"
    return Verdict(op, shown, backend, not wrong, len(cases), detail)
