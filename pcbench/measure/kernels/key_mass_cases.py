"""Cases of key_mass: those of calibrated_attention that its mass depends on, with the log-sum-exp of the rows."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from pcbench import reference
from pcbench.measure.kernels.attention_cases import calibrated
from pcbench.measure.kernels.draws import Draws

__all__ = ["KEY_MASS", "key_mass"]


def key_mass(draw: Draws, *, spoiled: bool = False, **shape: Any) -> dict[str, Any]:
    """Chunks as in `calibrated` and the log-sum-exp of its rows; rows that no mass is of are NaN where `spoiled`."""
    inputs = calibrated(draw, **shape)
    _, inputs["lse"], _ = reference.calibrated_attention(**inputs)
    del inputs["v"]
    if spoiled:
        batch, _, rows, _ = inputs["q"].shape
        ends = inputs.get("query_lengths", torch.full((batch,), rows, device=draw.device))[:, None]
        i = torch.arange(rows, device=draw.device)
        other = (i < ends - inputs["mass_rows"]) | (i >= ends)
        inputs["lse"].masked_fill_(other[:, None], torch.nan)
        inputs["q"].masked_fill_(other[:, None, :, None], torch.nan)
    return inputs


KEY_MASS: dict[str, Callable[[Draws], dict[str, Any]]] = {
    **{f"{n} keys": partial(key_mass, rows=n, keys=n) for n in (0, 1, 31, 33, 63, 65, 1000)},
    **{f"D {d}": partial(key_mass, rows=130, keys=130, dim=d, heads=4, kv_heads=2) for d in (96, 128)},
    **{f"G {g}": partial(key_mass, rows=37, keys=37, heads=2 * g, kv_heads=2) for g in (1, 3, 8, 16)},
    "all visible": partial(key_mass, rows=9, keys=300, causal=False),
    "no rows": partial(key_mass, rows=0, keys=70),
    "no mass": partial(key_mass, rows=40, keys=40, mass_rows=0),
    "more keys than rows": partial(key_mass, rows=70, keys=333, dim=128),
    "rows that see nothing": partial(key_mass, rows=90, keys=40, mass_rows=64),
    "mass of every row": partial(key_mass, rows=150, keys=150, mass_rows=150),
    "mass of more rows than there are": partial(key_mass, rows=5, keys=50, mass_rows=32),
    "unequal lengths": partial(
        key_mass,
        batch=3,
        heads=4,
        kv_heads=2,
        rows=100,
        keys=100,
        mass_rows=40,
        query_lengths=[100, 33, 0],
        key_lengths=[[100, 64], [33, 1], [31, 0]],
        spoiled=True,
    ),
    "unequal keys, all visible": partial(
        key_mass, batch=2, kv_heads=2, rows=9, keys=300, causal=False, key_lengths=[[300, 257], [1, 32]]
    ),
    "other rows are anything": partial(key_mass, heads=4, kv_heads=2, rows=70, keys=70, spoiled=True),
    "blocks and tails": partial(
        key_mass, batch=2, heads=6, kv_heads=2, rows=301, keys=557, dim=96, mass_rows=270, spoiled=True
    ),
    "sliced": partial(key_mass, batch=2, heads=4, kv_heads=2, rows=100, keys=100, sliced=True),
    "large scores": partial(key_mass, rows=100, keys=100, sharp=8.0),
}
