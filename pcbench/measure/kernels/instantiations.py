"""Small cases that between them launch every instantiation of the attention kernels of the GPU libraries."""

from collections.abc import Callable
from functools import partial
from typing import Any

from pcbench.measure.kernels.attention_cases import cached, calibrated, decode, window
from pcbench.measure.kernels.draws import Draws
from pcbench.measure.kernels.dual_chunk_cases import dual_chunk

__all__ = ["KERNELS"]

DIMS = (64, 96, 128)
STORE = {"lengths": [[70], [33]], "slots": [[0, 1]], "heads": 1}

# op → name → inputs; few and many query rows have kernels of their own, and so have evicted keys
KERNELS: dict[str, dict[str, Callable[[Draws], dict[str, Any]]]] = {
    "calibrated_attention": {
        f"kernels of D {dim}, {rows} rows": partial(
            calibrated, heads=1, rows=rows, keys=70, dim=dim, mass_rows=mass_rows, evicted=evicted
        )
        for dim in DIMS
        for rows, mass_rows, evicted in ((5, 5, None), (70, 40, 0.3))
    },
    "cached_attention": {
        f"kernels of D {dim}, {rows} rows": partial(cached, rows=rows, dim=dim, **STORE)
        for dim in DIMS
        for rows in (1, 40)
    },
    "decode_attention": {
        f"kernels of D {dim}": partial(decode, heads=1, lengths=[[70], [33]], dim=dim) for dim in DIMS
    },
    "dual_chunk_attention": {
        f"kernels of D {dim}, {rows} rows": partial(dual_chunk, heads=1, rows=rows, lengths=[[70], [45]], dim=dim)
        for dim in DIMS
        for rows in (1, 40)
    },
    "window_mass": {
        f"kernels of D {dim}, {rows} rows": partial(window, rows=rows, window=rows, dim=dim, **STORE)
        for dim in DIMS
        for rows in (1, 40)
    },
}
