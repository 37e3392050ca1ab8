import pytest
import torch

from pcbench import reference
from pcbench.config import validate
from pcbench.errors import ConfigError
from pcbench.measure.kernels.baselines import BASELINES
from pcbench.measure.kernels.cases import run
from pcbench.measure.kernels.draws import Draws
from pcbench.measure.kernels.shapes import SHAPES

# op → small numbers and the shape's words
SMALL = {
    "cached_attention": ({"heads": 2, "kv_heads": 1, "slots": 2, "keys": 8, "dim": 4}, "B1 H2 Hkv1 Q1 P2 S8 D4"),
    "calibrated_attention": (
        {"heads": 2, "kv_heads": 1, "keys": 8, "dim": 4, "mass_rows": 3},
        "B1 H2 Hkv1 Q8 S8 D4 causal r3",
    ),
    "chunk_select": ({"rows": 5, "hidden": 4, "vocab": 9, "chunks": 2}, "X5 E4 V9 M2 K1"),
    "chunk_topk": ({"chunks": 3, "keep": 2}, "M3 K2"),
    "decode_attention": ({"heads": 2, "kv_heads": 1, "keys": 8, "dim": 4}, "B1 H2 Hkv1 S8 D4"),
    "dual_chunk_attention": (
        {"heads": 2, "kv_heads": 1, "keys": 8, "dim": 4, "period": 3},
        "B1 H2 Hkv1 Q8 S8 D4 s3",
    ),
    "key_mass": (
        {"heads": 2, "kv_heads": 1, "keys": 8, "dim": 4, "mass_rows": 3},
        "B1 H2 Hkv1 Q8 S8 D4 causal r3",
    ),
    "merge_states": ({"parts": 3, "heads": 2, "rows": 4, "dim": 8}, "P3 B1 H2 Q4 D8"),
    "quantized_attention": (
        {"heads": 2, "kv_heads": 1, "slots": 2, "keys": 8, "dim": 4},
        "B1 H2 Hkv1 Q1 P2 S8 D4 int8",
    ),
    "query_nll_update": ({"rows": 3, "columns": 7}, "X3 Vt7"),
    "select_tokens": (
        {"heads": 2, "kv_heads": 1, "keys": 9, "dim": 4, "capacity": 3},
        "B1 H2 Hkv1 S9 D4 keep3 pool7",
    ),
    "window_mass": ({"heads": 2, "kv_heads": 1, "slots": 2, "keys": 8, "dim": 4, "rows": 3}, "B1 H2 Hkv1 Q3 P2 S8 D4"),
}


def shape(op, **changes):
    return validate(SHAPES[op], SMALL[op][0] | changes, "here")


def test_every_op_has_shapes_and_baselines():
    assert set(SHAPES) == set(BASELINES) == set(SMALL) == set(reference.__all__)


@pytest.mark.parametrize("op", SMALL)
def test_inputs_are_seeded_and_run(op):
    made = shape(op)
    first, second = (made.inputs(Draws(7, torch.device("cpu"), torch.float32, made_there=True)) for _ in range(2))
    assert str(made) == SMALL[op][1]
    assert first.keys() == second.keys()
    for one, two in zip(run(reference, op, first).values(), run(reference, op, second).values(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("op", "changes", "limit", "amount"),
    [
        # 4·H·D·S², causal half of it
        ("calibrated_attention", {}, "flops", 4 * 2 * 4 * 64 / 2),
        ("calibrated_attention", {"causal": False, "rows": 2, "batch": 3}, "flops", 3 * 4 * 2 * 4 * 2 * 8),
        ("calibrated_attention", {"rows": 2}, "flops", 4 * 2 * 4 * (2 * 6 + 2)),
        # keys and values once, two rows in and out, their lse
        ("cached_attention", {}, "bytes", 2 * 16 * 4 * 2 + 2 * 2 * 4 * 2 + 2 * 4),
        # codes, their rows' scales and a 64th of those of a block; of int4 half a byte and two numbers
        ("quantized_attention", {}, "bytes", 2 * 16 * 4 + 16 * 2 * (1 + 4 / 64) + 2 * 2 * 4 * 2 + 2 * 4),
        ("quantized_attention", {"kv_dtype": "int4"}, "bytes", 16 * 4 + 16 * 4 * (1 + 4 / 64) + 2 * 2 * 4 * 2 + 2 * 4),
        ("window_mass", {}, "bytes", 16 * 4 * 2 + 6 * 4 * 2 + 2 * 16 * 4 + 6 * 4),
        # keys and masses once, three rows of two heads and their lse
        ("key_mass", {}, "bytes", 8 * 4 * 2 + 6 * 4 * 2 + 2 * 8 * 4 + 6 * 4),
        ("key_mass", {"mass_rows": 9}, "bytes", 8 * 4 * 2 + 16 * 4 * 2 + 2 * 8 * 4 + 16 * 4),
        # keys, values and masses once, two rows in and out, their lse
        ("decode_attention", {}, "bytes", 2 * 8 * 4 * 2 + 2 * 2 * 4 * 2 + 8 * 4 + 2 * 4),
        # as causal attention; one row reads keys and values once
        ("dual_chunk_attention", {}, "flops", 4 * 2 * 4 * 64 / 2),
        ("dual_chunk_attention", {"rows": 1}, "bytes", 2 * 8 * 4 * 2 + 2 * 2 * 4 * 2 + 2 * 4),
        # masses, three kept rows of k and v in and out, their index
        ("select_tokens", {}, "bytes", 2 * 9 * 4 + 3 * 4 * 2 * 4 + 3 * 4),
        ("merge_states", {}, "bytes", 4 * 2 * 4 * 9 * 4),
        ("query_nll_update", {}, "bytes", 3 * 7 * 2 + 3 * 4 + 3 * 20),
        ("chunk_topk", {}, "bytes", 4 * (3 * 5 + 3 * 2 + 3)),
        ("chunk_select", {}, "flops", 2 * 5 * 9 * 4),
    ],
)
def test_work_counts_what_must_be_done(op, changes, limit, amount):
    work = shape(op, **changes).work(itemsize=2)
    assert work.limit == limit
    assert getattr(work, limit) == amount


def test_chunk_select_splits_its_rows_over_all_chunks():
    inputs = shape("chunk_select", rows=5, chunks=4).inputs(Draws(0, torch.device("cpu"), torch.float32))
    assert inputs["segments"].bincount().tolist() == [1, 1, 1, 2]


def test_an_unknown_number_is_refused_by_its_nearest_name():
    with pytest.raises(ConfigError, match=r'here: unknown key "kes"; did you mean "keys"'):
        shape("select_tokens", kes=3)
