"""Odd shapes as data: for every op, named cases with seeded inputs and the comparison of its results."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from pcbench import reference
from pcbench.measure.kernels.attention_cases import CACHED, CALIBRATED, DECODE, MERGE, WINDOW
from pcbench.measure.kernels.chunk_cases import CHUNK_SELECT, CHUNK_TOPK, NLL, SELECT
from pcbench.measure.kernels.draws import Draws
from pcbench.measure.kernels.dual_chunk_cases import DUAL_CHUNK
from pcbench.measure.kernels.instantiations import KERNELS
from pcbench.measure.kernels.key_mass_cases import KEY_MASS
from pcbench.measure.kernels.quantized_cases import QUANTIZED
from pcbench.measure.parity import Comparison, compare_exact, compare_lse, compare_mass, compare_out

__all__ = ["CASES", "CHANGED", "Case", "check_case", "compare", "run"]


@dataclass(frozen=True)
class Case:
    """One call of an op.

    Args:
        op: name of the op.
        name: what is odd about it.
        make: inputs from seeded draws, by argument name.
    """

    op: str
    name: str
    make: Callable[[Draws], dict[str, Any]]

    def __str__(self) -> str:
        return f"{self.op}-{self.name}"

    def inputs(self, device: torch.device | str, dtype: torch.dtype) -> dict[str, Any]:
        """Arguments of the call, the same on every machine."""
        return self.make(Draws(crc32(str(self).encode()), torch.device(device), dtype))


_SHAPES: dict[str, Mapping[str, Callable[[Draws], dict[str, Any]]]] = {
    "cached_attention": CACHED,
    "calibrated_attention": CALIBRATED,
    "chunk_select": CHUNK_SELECT,
    "chunk_topk": CHUNK_TOPK,
    "decode_attention": DECODE,
    "dual_chunk_attention": DUAL_CHUNK,
    "key_mass": KEY_MASS,
    "merge_states": MERGE,
    "quantized_attention": QUANTIZED,
    "query_nll_update": NLL,
    "select_tokens": SELECT,
    "window_mass": WINDOW,
}

CASES = tuple(
    Case(op, name, make) for op, shapes in _SHAPES.items() for name, make in (shapes | KERNELS.get(op, {})).items()
)


def check_case(case: Case, ops: Any, device: torch.device | str, dtype: torch.dtype) -> dict[str, Comparison]:
    """Runs a case on a backend and compares every result with the truth.

    Args:
        case: what to run.
        ops: a backend of `pcbench.ops.backend`, or `pcbench.ops` itself.
        device: where the inputs are.
        dtype: of the float inputs.

    Returns:
        Result → comparison.
    """
    inputs = case.inputs(device, dtype)
    return compare(case.op, inputs, run(ops, case.op, inputs))


def compare(op: str, inputs: dict[str, Any], got: dict[str, Tensor]) -> dict[str, Comparison]:
    """Holds what `run` returned for an op against the float64 reference on the same inputs."""
    return _COMPARE[op](inputs, got, run(reference, op, widened(inputs)), run(reference, op, inputs))


def run(ops: Any, op: str, inputs: dict[str, Any]) -> dict[str, Tensor]:
    """Calls an op on copies of what it changes; results and changed arguments by name."""
    inputs = {name: value.clone() if name in CHANGED.get(op, ()) else value for name, value in inputs.items()}
    result = getattr(ops, op)(**inputs)
    results = result if isinstance(result, tuple) else () if result is None else (result,)
    named = dict(zip(_RESULTS.get(op, ()), results, strict=True))
    return named | {name: inputs[name] for name in CHANGED.get(op, ())}


def widened(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same arguments in float64; codes of 8 bits stay what they are."""
    return {k: v.double() if _is_wide(v) else v for k, v in inputs.items()}


def _is_wide(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.itemsize > 1


_RESULTS = {
    "cached_attention": ("out", "lse"),
    "calibrated_attention": ("out", "lse", "mass"),
    "chunk_select": ("scores", "freed"),
    "chunk_topk": ("freed",),
    "decode_attention": ("out", "lse", "mass"),
    "dual_chunk_attention": ("out", "lse"),
    "key_mass": ("mass",),
    "merge_states": ("out", "lse"),
    "quantized_attention": ("out", "lse"),
    "select_tokens": ("k2", "v2", "index", "lengths"),
    "window_mass": ("mass",),
}
CHANGED = {
    "chunk_select": ("best_scores", "best_ids", "best_slots"),
    "chunk_topk": ("best_scores", "best_ids", "best_slots"),
    "query_nll_update": ("row_max", "row_sum", "row_target"),
}

Results = dict[str, Tensor]


def _attention(inputs: dict[str, Any], got: Results, truth: Results, own: Results) -> dict[str, Comparison]:
    dtype = inputs["q"].dtype if "q" in inputs else torch.float32
    found = {
        "out": compare_out(got["out"], truth["out"], own["out"], dtype),
        "lse": compare_lse(got["lse"], truth["lse"], own["lse"], dtype),
    }
    if "mass" in got:
        # an op has it for an option that a method may leave out
        summed = min(inputs.get("mass_rows", 0), inputs["q"].shape[2])
        found["mass"] = compare_mass(got["mass"], truth["mass"], summed)
    return found


def _decode(inputs: dict[str, Any], got: Results, truth: Results, own: Results) -> dict[str, Comparison]:
    found = _attention(inputs, {name: got[name] for name in ("out", "lse")}, truth, own)
    group = inputs["q"].shape[1] // inputs["starts"].shape[1]
    return found | {"mass": compare_mass(got["mass"], truth["mass"], group)}


def _window(inputs: dict[str, Any], got: Results, truth: Results, own: Results) -> dict[str, Comparison]:
    # [B, P, H, L] → [B, H, P·L]: a row's attention is spread over the listed slots
    mass, wanted = (x["mass"].transpose(1, 2).flatten(2) for x in (got, truth))
    return {"mass": compare_mass(mass, wanted, inputs["q_last"].shape[2])}


def _key_mass(inputs: dict[str, Any], got: Results, truth: Results, own: Results) -> dict[str, Comparison]:
    return {"mass": compare_mass(got["mass"], truth["mass"], min(inputs["mass_rows"], inputs["q"].shape[2]))}


def _nll(inputs: dict[str, Any], got: Results, truth: Results, own: Results) -> dict[str, Comparison]:
    lse, wanted, mine = (x["row_max"] + x["row_sum"].log() for x in (got, truth, own))
    return {
        "row_max": compare_exact(got["row_max"], own["row_max"]),
        "row_target": compare_exact(got["row_target"], own["row_target"]),
        "lse": compare_lse(lse, wanted, mine, torch.float32),
    }


def _chunk_select(inputs: dict[str, Any], got: Results, truth: Results, own: Results) -> dict[str, Comparison]:
    # the scores are made on the device: the selection must follow from them
    again = run(reference, "chunk_topk", {k: v for k, v in inputs.items() if k in _TOPK} | {"scores": got["scores"]})
    exact = {name: compare_exact(got[name], again[name]) for name in ("freed", "best_ids", "best_slots", "best_scores")}
    scores = compare_lse(got["scores"], truth["scores"], own["scores"], inputs["hidden"].dtype)
    return {"scores": scores} | exact


def _exact(inputs: dict[str, Any], got: Results, truth: Results, own: Results) -> dict[str, Comparison]:
    return {name: compare_exact(got[name], own[name]) for name in own}


_TOPK = ("chunk_ids", "slots", "best_scores", "best_ids", "best_slots")
_COMPARE: dict[str, Callable[[dict[str, Any], Results, Results, Results], dict[str, Comparison]]] = {
    "cached_attention": _attention,
    "calibrated_attention": _attention,
    "chunk_select": _chunk_select,
    "chunk_topk": _exact,
    "decode_attention": _decode,
    "dual_chunk_attention": _attention,
    "key_mass": _key_mass,
    "merge_states": _attention,
    "quantized_attention": _attention,
    "query_nll_update": _nll,
    "select_tokens": _exact,
    "window_mass": _window,
}
