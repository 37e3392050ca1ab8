"""What an op is timed against: stock code that computes the same, and floors that do a part of it.

A floor's name begins with `floor-`: it shows how near an op is to the least that any implementation must do.
"""

from collections.abc import Callable
from typing import Any

from pcbench.errors import unknown_name
from pcbench.measure.kernels.attention_baselines import (
    CACHED,
    CALIBRATED,
    DECODE,
    DUAL_CHUNK,
    KEY_MASS,
    MERGE,
    QUANTIZED,
    WINDOW,
)
from pcbench.measure.kernels.chunk_baselines import CHUNK_SELECT, CHUNK_TOPK, NLL, SELECT

__all__ = ["BASELINES", "VARIANTS", "check_baseline", "is_floor", "make_baseline"]

Make = Callable[[dict[str, Any]], Callable[[], Any]]

# op → baseline → what makes a call of it from the op's inputs; preparing them is not timed
BASELINES: dict[str, dict[str, Make]] = {
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


# op → floor → what differs in the op's own call: what a part of the op costs
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {"calibrated_attention": {"floor-no-mass": {"mass_rows": 0}}}


def is_floor(name: str) -> bool:
    """Whether a baseline does less than the op."""
    return name.startswith("floor-")


def check_baseline(op: str, name: str, where: str) -> None:
    """Raises ConfigError unless `name` is a baseline of `op`."""
    names = [*BASELINES[op], *VARIANTS.get(op, ())]
    if name not in names:
        raise unknown_name(where, f"baseline of {op}", name, names)


def make_baseline(op: str, name: str, inputs: dict[str, Any]) -> Callable[[], Any]:
    """A call that computes from `inputs` what the op computes.

    Raises:
        BackendUnavailable: the package is not installed or does not cover the shape.
    """
    return BASELINES[op][name](inputs)
