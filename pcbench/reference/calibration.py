"""Attention calibration: keys that receive more than a threshold of the attention are evicted, by zone."""

import torch
from torch import Tensor

__all__ = ["ZONES", "keys_to_evict", "zone_mask"]

ZONES = ("sink", "middle", "recent", "all")


def zone_mask(zone: str, position: Tensor, total: Tensor | int, width: int) -> Tensor:
    """Which positions lie in a zone of a sequence of `total` keys.

    Args:
        zone: sink: the first `width`; recent: the last `width`, unless they are sink; middle: the rest; all.
        position: [...] integers, 0-based; negative ones are in no zone.
        total: broadcastable to position; keys in the sequence.
        width: keys of the sink and of the recent zone.

    Returns:
        [...] bool. The three zones are a partition of the valid positions.

    Source: zones of 100 keys, ParallelComp, arXiv:2502.14317v2, appendix C. In the released code the keys at
        exactly 100 and n − 100 belong to no zone and short sequences have overlapping zones; here they partition.
    """
    valid = (position >= 0) & (position < total)
    sink = position < width
    recent = (position >= total - width) & ~sink
    if zone == "all":
        return valid
    return valid & {"sink": sink, "recent": recent, "middle": ~sink & ~recent}[zone]


def keys_to_evict(mass: Tensor, rows: int, threshold: float, zone: Tensor) -> Tensor:
    """The keys of a zone whose mean attention over a window of rows exceeds the threshold.

    A row's attention sums to 1, so fewer than 1/threshold keys of a head are evicted.

    Args:
        mass: [...] float32, attention summed over the window.
        rows: rows of the window, ≥ 1.
        threshold: share of the attention, in (0, 1].
        zone: broadcastable to mass, bool.

    Returns:
        [...] bool.

    Source: equation 8 of ParallelComp, arXiv:2502.14317v2.
    """
    return (mass > threshold * rows) & zone
