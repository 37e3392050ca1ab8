"""Eviction bits."""

import pytest
import torch

from pcbench.reference.bits import pack_bits, unpack_bits, words


@pytest.mark.parametrize("keys", [0, 1, 31, 32, 33, 63, 65, 1000])
def test_pack_bits_and_back(keys):
    evicted = torch.rand(2, 3, keys, generator=torch.Generator().manual_seed(keys)) < 0.5
    packed = pack_bits(evicted)
    assert packed.shape == (2, 3, words(keys))
    assert packed.dtype == torch.int32
    assert torch.equal(unpack_bits(packed, keys), evicted)


def test_bit_j_of_a_word_is_key_j():
    evicted = torch.zeros(64, dtype=torch.bool)
    evicted[[0, 31, 33]] = True
    assert pack_bits(evicted).tolist() == [1 - 2**31, 2]


def test_keys_beyond_the_words_are_not_evicted():
    assert unpack_bits(torch.tensor([-1], dtype=torch.int32), 40).tolist() == [True] * 32 + [False] * 8
