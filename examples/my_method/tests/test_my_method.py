"""With a window as long as the text the method is full attention; with a shorter one the middle is forgotten."""

import pytest
import torch

import pcbench

TEXT = "one two three four five six seven eight nine ten " * 8


@pytest.fixture(scope="module")
def asked():
    loaded = pcbench.load_model("random:tiny", device="cpu")
    told = {"context": TEXT, "question": "eleven", "new_tokens": 4, "return_logits": True}
    return lambda **more: pcbench.answer(*loaded, **told, **more)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_window_as_long_as_the_text_is_full_attention(asked, backend):
    full = asked(method="full")
    found = asked(method="chunk_window", backend=backend, chunk_tokens=50, window=9)
    assert found.ids == full.ids
    torch.testing.assert_close(found.logits, full.logits, rtol=1e-4, atol=1e-4)
    assert found.kept_chunks == [*range(8)]
    assert found.kept_tokens == full.kept_tokens


def test_the_first_chunk_and_the_last_ones_stay(asked):
    found = asked(method="chunk_window", chunk_tokens=50, window=2)
    assert found.kept_chunks == [0, 6, 7]
    assert found.kept_tokens == sum(chunk.tokens[1] - chunk.tokens[0] for chunk in found.chunks if chunk.kept)
    full = asked(method="full")
    assert not torch.allclose(found.logits[0], full.logits[0], rtol=1e-4, atol=1e-4)
