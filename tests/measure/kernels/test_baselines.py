"""Baselines compute what the op computes: otherwise their ratio says nothing."""

import pytest
import torch

from pcbench import reference
from pcbench.errors import BackendUnavailable, ConfigError
from pcbench.measure.kernels.baselines import BASELINES, VARIANTS, check_baseline, is_floor, make_baseline
from pcbench.measure.kernels.cases import run
from pcbench.measure.kernels.draws import Draws
from pcbench.measure.kernels.shapes import SHAPES

ATTENTION = ("sdpa-flash", "sdpa-math", "sdpa-repeated")
SHAPE = {
    "cached_attention": {"batch": 2, "heads": 4, "kv_heads": 2, "slots": 3, "keys": 20, "dim": 64},
    "calibrated_attention": {"batch": 2, "heads": 4, "kv_heads": 2, "keys": 40, "dim": 64},
    "decode_attention": {"batch": 2, "heads": 4, "kv_heads": 2, "keys": 20, "dim": 64},
    "dual_chunk_attention": {"batch": 2, "heads": 4, "kv_heads": 2, "keys": 41, "dim": 64, "period": 10},
    "key_mass": {"batch": 2, "heads": 4, "kv_heads": 2, "keys": 40, "dim": 64, "mass_rows": 5},
    "quantized_attention": {"batch": 2, "heads": 4, "kv_heads": 2, "slots": 3, "keys": 20, "dim": 64},
    "window_mass": {"batch": 2, "heads": 4, "kv_heads": 2, "slots": 3, "keys": 20, "dim": 64},
}


def inputs_of(op, **numbers):
    return SHAPES[op](**numbers).inputs(Draws(3, torch.device("cpu"), torch.float32))


def close(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("name", ATTENTION)
def test_cached_attention_baselines_agree(name, rows):
    inputs = inputs_of("cached_attention", **SHAPE["cached_attention"], rows=rows)
    close(make_baseline("cached_attention", name, inputs)(), run(reference, "cached_attention", inputs)["out"])


@pytest.mark.parametrize("shape", [{}, {"causal": False}, {"rows": 9}, {"rows": 9, "causal": False}])
@pytest.mark.parametrize("name", ATTENTION)
def test_calibrated_attention_baselines_agree(name, shape):
    inputs = inputs_of("calibrated_attention", **SHAPE["calibrated_attention"], **shape)
    close(make_baseline("calibrated_attention", name, inputs)(), run(reference, "calibrated_attention", inputs)["out"])


def test_attention_by_a_library_is_the_op():
    inputs = inputs_of("calibrated_attention", **SHAPE["calibrated_attention"], mass_rows=5)
    wanted = run(reference, "calibrated_attention", inputs)
    for got, name in zip(make_baseline("calibrated_attention", "by-flash", inputs)(), wanted, strict=True):
        close(got, wanted[name])
    with pytest.raises(BackendUnavailable, match="cudnn must be able to run here, got: it needs a GPU"):
        make_baseline("calibrated_attention", "by-cudnn", inputs)
    with pytest.raises(BackendUnavailable, match="by-flash: a call that libraries take, got one that is our own"):
        make_baseline("calibrated_attention", "by-flash", inputs | {"causal": False})


@pytest.mark.parametrize("name", ["torch-dequantize", "floor-unquantized"])
@pytest.mark.parametrize("kv_dtype", ["int8", "int4", "fp8"])
def test_quantized_attention_baselines_agree(name, kv_dtype):
    inputs = inputs_of("quantized_attention", **SHAPE["quantized_attention"], rows=3, kv_dtype=kv_dtype)
    close(make_baseline("quantized_attention", name, inputs)(), run(reference, "quantized_attention", inputs)["out"])


def test_window_mass_baseline_agrees():
    inputs = inputs_of("window_mass", **SHAPE["window_mass"], rows=5)
    close(make_baseline("window_mass", "torch-matmul", inputs)(), run(reference, "window_mass", inputs)["mass"])


@pytest.mark.parametrize("shape", [{}, {"causal": False}, {"rows": 9}, {"mass_rows": 50}])
def test_key_mass_baselines_agree(shape):
    inputs = inputs_of("key_mass", **SHAPE["key_mass"] | shape)
    close(make_baseline("key_mass", "torch-matmul", inputs)(), run(reference, "key_mass", inputs)["mass"])
    first = max(0, inputs["q"].shape[2] - inputs["mass_rows"])
    keys = inputs["k"].repeat_interleave(2, 1).transpose(-1, -2)
    close(make_baseline("key_mass", "floor-gemm", inputs)(), inputs["q"][:, :, first:] @ keys)


def test_decode_attention_baseline_agrees():
    inputs = inputs_of("decode_attention", **SHAPE["decode_attention"])
    found = make_baseline("decode_attention", "torch-matmul", inputs)()
    for got, wanted in zip(found, run(reference, "decode_attention", inputs).values(), strict=True):
        close(got, wanted)


@pytest.mark.parametrize("rows", [None, 1, 11])
def test_dual_chunk_attention_baseline_agrees(rows):
    inputs = inputs_of("dual_chunk_attention", **SHAPE["dual_chunk_attention"], rows=rows)
    wanted = run(reference, "dual_chunk_attention", inputs)["out"]
    close(make_baseline("dual_chunk_attention", "sdpa-merged", inputs)(), wanted)
    # over one chunk the op is full attention
    inputs |= {"period": 41, "turns": torch.ones(42, 64)}
    wanted = run(reference, "dual_chunk_attention", inputs)["out"]
    close(make_baseline("dual_chunk_attention", "floor-full", inputs)(), wanted)


def test_dual_chunk_attention_baseline_refuses_rows_that_begin_within_a_chunk():
    inputs = inputs_of("dual_chunk_attention", **SHAPE["dual_chunk_attention"], rows=12)
    with pytest.raises(BackendUnavailable, match="rows from the beginning of a chunk on, got 12 of 41"):
        make_baseline("dual_chunk_attention", "sdpa-merged", inputs)


def test_select_tokens_baseline_agrees():
    inputs = inputs_of("select_tokens", batch=2, heads=4, kv_heads=2, keys=90, dim=8, capacity=10, pool=1)
    k2, v2, index = make_baseline("select_tokens", "torch-topk", inputs)()
    wanted = run(reference, "select_tokens", inputs)
    assert torch.equal(index, wanted["index"].long())
    assert torch.equal(k2, wanted["k2"])
    assert torch.equal(v2, wanted["v2"])


def test_select_tokens_floor_copies_the_bytes_of_the_op():
    shape = SHAPES["select_tokens"](heads=4, kv_heads=2, keys=90, dim=8, capacity=10)
    copied = make_baseline("select_tokens", "floor-copy", shape.inputs(Draws(3, torch.device("cpu"), torch.float32)))()
    index = 2 * 10 * 4
    assert 2 * copied.nbytes == shape.work(itemsize=4).bytes - index


def test_merge_states_baseline_agrees():
    inputs = inputs_of("merge_states", parts=3, heads=2, rows=5, dim=8)
    out, lse = make_baseline("merge_states", "torch-softmax", inputs)()
    wanted = run(reference, "merge_states", inputs)
    close(out, wanted["out"])
    close(lse, wanted["lse"])


def test_query_nll_update_baselines_agree():
    inputs = inputs_of("query_nll_update", rows=6, columns=30)
    state = run(reference, "query_nll_update", inputs)
    losses = make_baseline("query_nll_update", "torch-cross-entropy", inputs)()
    lse = state["row_max"] + state["row_sum"].log()
    close(losses, lse - state["row_target"])
    found, target = make_baseline("query_nll_update", "torch-logsumexp", inputs)()
    close(found, lse)
    close(target, state["row_target"])


def test_chunk_topk_baseline_keeps_the_lowest():
    inputs = inputs_of("chunk_topk", chunks=9, keep=3)
    inputs["scores"] = torch.randperm(9).float()
    _, ids, slots = make_baseline("chunk_topk", "torch-topk", inputs)()
    wanted = run(reference, "chunk_topk", inputs)
    assert ids.sort().values.tolist() == wanted["best_ids"].tolist()
    assert sorted(slots.tolist()) == sorted(wanted["best_slots"].tolist())


def test_chunk_select_baseline_agrees():
    inputs = inputs_of("chunk_select", rows=12, hidden=16, vocab=50, chunks=4, keep=2)
    scores, ids, _ = make_baseline("chunk_select", "full-logits", inputs)()
    wanted = run(reference, "chunk_select", inputs)
    close(scores.sort().values, wanted["best_scores"].sort().values)
    assert ids.sort().values.tolist() == wanted["best_ids"].tolist()
    close(make_baseline("chunk_select", "floor-gemm", inputs)(), inputs["hidden"] @ inputs["lm_head"].T)


@pytest.mark.parametrize("name", ["flash-attn", "flashinfer", "aiter"])
def test_a_package_that_is_not_here_says_so(name, monkeypatch):
    for package in ("flash_attn", "flashinfer", "aiter"):
        monkeypatch.setitem(__import__("sys").modules, package, None)
    inputs = inputs_of("calibrated_attention", **SHAPE["calibrated_attention"])
    with pytest.raises(BackendUnavailable, match="not installed"):
        make_baseline("calibrated_attention", name, inputs)


def test_only_floors_do_less_than_the_op():
    floors = {(op, name) for op, table in BASELINES.items() for name in table if is_floor(name)}
    assert floors == {
        ("select_tokens", "floor-copy"),
        ("chunk_select", "floor-gemm"),
        ("dual_chunk_attention", "floor-full"),
        ("key_mass", "floor-gemm"),
        ("quantized_attention", "floor-unquantized"),
    }
    assert all(is_floor(name) for variants in VARIANTS.values() for name in variants)


def test_an_unknown_baseline_is_refused_by_its_nearest_name():
    with pytest.raises(ConfigError, match='unknown baseline of chunk_topk "torch-top"; did you mean "torch-topk"'):
        check_baseline("chunk_topk", "torch-top", "here")
