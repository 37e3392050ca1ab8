"""Segments that do not lie in the store, or are longer than somebody said."""

import pytest
import torch
from emulated import LIBRARIES, emulated_ops

from pcbench import ops, reference
from pcbench.errors import ShapeError
from tests.ops.calls import cached, decode, draw, ints, with_dtype


def test_segments_outside_the_store_are_empty():
    arguments = cached(starts=ints([0, 12]), lengths=ints([8, 8]))
    out, lse = ops.cached_attention(**arguments)
    assert lse[0, :2].isfinite().all()
    assert lse[0, 2:].isneginf().all()
    assert not out[0, 2:].any()


@pytest.mark.parametrize("v_starts", [[0, 3], [0, -1]], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("backend", ["cpu", *LIBRARIES])
def test_segments_whose_values_are_outside_the_store_are_empty(backend, dtype, v_starts):
    found = ops.backend("cpu") if backend == "cpu" else emulated_ops(backend)
    arguments = with_dtype(cached(v_rows=draw(10, 64), v_starts=ints(v_starts)), dtype)
    out, lse = found.cached_attention(**arguments)
    assert lse[0, :2].isfinite().all()
    assert lse[0, 2:].isneginf().all()
    assert not out[0, 2:].any()


def test_a_longest_below_a_length_is_refused_where_lengths_can_be_read():
    words = "decode_attention: longest must be at least every length, got 7"
    with pytest.raises(ShapeError, match=words):
        reference.decode_attention(**decode(longest=7))
    for functions in (ops, torch.ops.pcbench):
        with pytest.raises(RuntimeError, match=words):
            functions.decode_attention(**decode(longest=7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("library", LIBRARIES)
def test_keys_beyond_the_longest_are_attended_to_and_not_reported_where_lengths_cannot_be_read(library, dtype):
    arguments = with_dtype(decode(), dtype)
    wanted = emulated_ops(library).decode_attention(**arguments)
    found = emulated_ops(library).decode_attention(**arguments | {"longest": 7})
    assert all(map(torch.equal, found, (*wanted[:2], wanted[2][..., :7])))


@pytest.mark.parametrize("backend", ["cpu", *LIBRARIES])
def test_decoding_over_a_segment_outside_the_store_gives_no_mass(backend):
    found = ops.backend("cpu") if backend == "cpu" else emulated_ops(backend)
    out, lse, mass = found.decode_attention(**decode(starts=ints([0, 12])))
    assert lse[0, :2].isfinite().all()
    assert torch.allclose(mass[0].sum(-1), torch.tensor([2.0, 0.0]))
    assert lse[0, 2:].isneginf().all()
    assert not out[0, 2:].any()
