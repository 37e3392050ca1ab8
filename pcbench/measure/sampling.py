"""A seeded sample of a call: one (batch row, kv-head) of its arguments and results, all of its query rows."""

from random import Random
from typing import Any

from torch import Tensor

from pcbench.measure.kernels.cases import compare
from pcbench.measure.parity import Comparison

__all__ = ["AXES", "compare_samples", "sample_heads"]

# samples of a call that `compare_samples` takes
SAMPLES = 2

# query rows of a call that is cheap enough to be checked whole
FEW_ROWS = 64

# axes of inputs and results: B batch row, H query heads, K kv-head, X either by its size, - all
AXES = {
    "calibrated_attention": {
        **dict.fromkeys(("q", "out_in", "lse_in", "out", "lse", "mass"), "BH"),
        **dict.fromkeys(("k", "v", "key_lengths"), "BK"),
        "query_lengths": "B",
        "evicted": "BX",
    },
    "cached_attention": {
        **dict.fromkeys(("q", "out", "lse"), "BH"),
        **dict.fromkeys(("starts", "lengths", "v_starts"), "-K"),
        "slots": "B",
        "evicted": "-X",
    },
    "quantized_attention": {
        **dict.fromkeys(("q", "out", "lse"), "BH"),
        **dict.fromkeys(("starts", "lengths"), "-K"),
        "slots": "B",
        "evicted": "-X",
    },
    "key_mass": {
        **dict.fromkeys(("q", "lse", "mass"), "BH"),
        **dict.fromkeys(("k", "key_lengths"), "BK"),
        "query_lengths": "B",
    },
    "window_mass": {
        **dict.fromkeys(("q_last", "lse"), "BH"),
        **dict.fromkeys(("starts", "lengths"), "-K"),
        "slots": "B",
        "mass": "B-H",
    },
    "select_tokens": {
        **dict.fromkeys(("k", "v", "budgets", "key_lengths", "evicted", "k2", "v2", "index"), "BK"),
        "lengths": "BK",
        "mass": "BX",
        "protect": "B",
    },
}
# an argument with all kv-heads, and one with all batch rows
HEADS = {
    **dict.fromkeys(("calibrated_attention", "key_mass", "select_tokens"), "k"),
    **dict.fromkeys(("cached_attention", "quantized_attention", "window_mass"), "starts"),
}
ROWS = {
    **dict.fromkeys(("calibrated_attention", "cached_attention", "key_mass", "quantized_attention"), "q"),
    "window_mass": "q_last",
    "select_tokens": "k",
}


def sample_heads(
    op: str, inputs: dict[str, Any], got: dict[str, Tensor], random: Random
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """One batch row and kv-head of every argument and result, or all of a call of few query rows.

    Args:
        op: name of the op.
        inputs: arguments by name.
        got: results by name, as `cases.run` returns them.
        random: what chooses.
    """
    if not _is_large(op, inputs):
        return inputs, got
    kv_heads, rows = inputs[HEADS[op]].shape[1], inputs[ROWS[op]].shape[0]
    row, head = random.randrange(rows), random.randrange(kv_heads)

    def cut(name: str, value: Any) -> Any:
        if not isinstance(value, Tensor) or name not in AXES[op]:
            return value
        for axis, letter in enumerate(AXES[op][name]):
            if letter == "B":
                value = value.narrow(axis, row, 1)
            elif letter != "-":
                group = value.shape[axis] // kv_heads
                value = value.narrow(axis, head * group, group)
        return value

    return {n: cut(n, v) for n, v in inputs.items()}, {n: cut(n, v) for n, v in got.items()}


def compare_samples(op: str, inputs: dict[str, Any], got: dict[str, Tensor], seed: int) -> dict[str, Comparison]:
    """Holds a call against the float64 reference: all of a small one, a few samples of a large one as one sample."""
    random = Random(seed)
    found: dict[str, Comparison] = {}
    for _ in range(SAMPLES if _is_large(op, inputs) else 1):
        for result, now in compare(op, *sample_heads(op, inputs, got, random)).items():
            found[result] = now.joined(found.get(result, now))
    return found


def _is_large(op: str, inputs: dict[str, Any]) -> bool:
    return op in AXES and inputs[ROWS[op]].shape[2] > FEW_ROWS
