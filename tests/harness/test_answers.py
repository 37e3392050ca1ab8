import pytest
import torch
from tiny import make_runner

from pcbench import answer
from pcbench.errors import BackendUnavailable, ConfigError


class Letters:
    """A Hugging Face tokenizer's surface over bytes, with 299 for a BOS."""

    def __call__(self, text, add_special_tokens=True):
        ids = [299] * add_special_tokens + list(text.encode())
        return type("Encoding", (), {"input_ids": ids})()

    def decode(self, ids, skip_special_tokens):
        return bytes(i for i in ids if i < 256).decode(errors="replace")

    eos_token_id = None


@pytest.fixture(scope="module")
def model():
    return make_runner(bos_token_id=299).model


def ask(model, **config):
    return answer(model, Letters(), context="a b c " * 60, question="what?", new_tokens=3, **config)


def test_answer_keeps_chunks_and_times_every_token(model):
    found = ask(model, chunk_tokens=100, keep=2)
    assert len(found.kept_chunks) == 2
    assert found.prefill_ms > 0
    assert len(found.decode_ms) == 2
    assert isinstance(found.text, str)


def test_answer_of_one_chunk_is_that_of_full_attention(model):
    found, full = ask(model), ask(model, method="full")
    assert found.text == full.text
    assert full.kept_chunks is None


@pytest.mark.parametrize("names", ["tokenizer", "generation config"])
def test_answer_ends_where_tokenizer_or_generation_config_says(model, monkeypatch, names):
    read = [299, *(b"a b c " * 60), *b"what?"]
    with torch.inference_mode():
        first = model(torch.tensor([read])).logits[0, -1].argmax().item()
    assert len(ask(model, method="full").decode_ms) == 2
    owner, key = (Letters, "eos_token_id") if names == "tokenizer" else (model.generation_config, "eos_token_id")
    monkeypatch.setattr(owner, key, first)
    assert ask(model, method="full").decode_ms == []


def test_answer_leaves_the_model_as_it_was(model):
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        before = model(ids).logits
        ask(model, chunk_tokens=100)
        assert torch.equal(model(ids).logits, before)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"method": "parallel_com"}, ConfigError, 'answer: method: unknown method "parallel_com"; did you mean'),
        ({"keeep": 1}, ConfigError, 'answer: parallel_comp: unknown key "keeep"; did you mean "keep"'),
        ({"backend": "hip"}, BackendUnavailable, "ops: backend hip must be able to run here"),
    ],
)
def test_answer_says_what_is_wrong(model, config, error, message):
    with pytest.raises(error, match=message):
        ask(model, **config)
