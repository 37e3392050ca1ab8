import copy

import numpy as np
import pytest
import torch
from tiny import letters_tokenizer, make_runner
from transformers import AutoModelForCausalLM, AutoTokenizer

from pcbench import answer
from pcbench.errors import BackendUnavailable, ConfigError, NotFinite

TEXT, QUESTION = "a b c " * 60, "what?"
TWO = {"chunk_tokens": 100, "keep": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a model and its tokenizer, named as one that the released runner knows."""
    path = tmp_path_factory.mktemp("models") / "llama2-tiny"
    make_runner(bos_token_id=256, trained_tokens=1024).model.save_pretrained(path)
    letters_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def loaded(folder):
    """As `from_pretrained` gives them: the weights want gradients."""
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def model(loaded):
    return loaded[0]


@pytest.fixture
def ask(loaded):
    def asked(context=TEXT, question=QUESTION, new_tokens=3, **more):
        return answer(*loaded, context=context, question=question, new_tokens=new_tokens, **more)

    return asked


def same(found, other):
    return (found.text, found.ids, found.chunks) == (other.text, other.ids, other.chunks)


def test_answer_keeps_chunks_and_times_every_token(ask):
    found = ask(**TWO)
    assert [chunk.kept for chunk in found.chunks].count(True) == len(found.kept_chunks) == 2
    assert found.prefill_ms > 0
    assert len(found.decode_ms) == 2
    assert isinstance(found.text, str)
    # the BOS of the chunks is kept once
    assert found.kept_tokens == 1 + sum(b - a for a, b in (c.tokens for c in found.chunks if c.kept))
    assert found.warnings == []
    assert found.logits is None


@pytest.mark.parametrize("method", ["full", "parallel_comp"])
def test_answer_takes_a_model_as_it_was_loaded(ask, model, method):
    assert all(p.requires_grad for p in model.parameters())
    plain = ask(method=method)
    for around in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with around():
            assert same(ask(method=method), plain)
    model.train()
    model.model.layers[0].eval()
    try:
        assert same(ask(method=method), plain)
        assert [m.training for m in (model, model.model.layers[0], model.model.layers[1])] == [True, False, True]
    finally:
        model.eval()
    assert all(p.requires_grad for p in model.parameters())


def test_answer_leaves_the_model_as_it_was(ask, model):
    ids = torch.arange(20)[None]
    before = model(ids).logits
    ask(**TWO)
    after = model(ids).logits
    assert torch.equal(after, before)
    after.sum().backward()
    model.zero_grad()


def test_answer_takes_ids_for_texts(ask, loaded):
    plain, encode = ask(**TWO), loaded[1]
    ids, asked = encode(TEXT).input_ids, encode(QUESTION, add_special_tokens=False).input_ids
    for context, question in [(ids, asked), (torch.tensor(ids), torch.tensor([asked])), (ids[1:], QUESTION)]:
        found = ask(context, question, **TWO)
        assert (found.text, found.ids) == (plain.text, plain.ids)
        # spans are those of the ids that were given, the BOS is none of a chunk
        shift = len(context) - len(TEXT)
        assert [c.tokens for c in found.chunks] == [(a + shift, b + shift) for a, b in (c.tokens for c in plain.chunks)]
        assert {c.characters for c in found.chunks} == {None}


def test_chunks_have_the_spans_of_their_text(ask):
    text = "é" * 50 + "ab" * 100
    found = ask(text, **TWO)
    assert [c.characters for c in found.chunks] == [(0, 50), (50, 150), (150, 250)]
    assert [c.tokens for c in found.chunks] == [(0, 100), (100, 200), (200, 300)]


@pytest.mark.parametrize("as_ids", [False, True])
def test_chunks_are_divided_as_asked(ask, loaded, as_ids):
    borders = [(0, 30), (30, 200), (200, len(TEXT))]
    context = loaded[1](TEXT, add_special_tokens=False).input_ids if as_ids else TEXT
    found = ask(context, chunks=borders, keep=2)
    assert [c.tokens for c in found.chunks] == borders
    assert [c.characters for c in found.chunks] == ([None] * 3 if as_ids else borders)
    even = [(0, 90), (90, 180), (180, 270), (270, len(TEXT))]
    assert same(ask(chunks=even, keep=2), ask(**TWO))


def test_a_letter_of_several_tokens_lies_in_one_chunk(ask):
    found = ask("é" * 100, chunks=[(0, 30), (30, 100)])
    assert [c.tokens for c in found.chunks] == [(0, 60), (60, 200)]


@pytest.mark.parametrize("method", ["full", "parallel_comp"])
def test_logits_are_those_of_every_token(ask, method):
    found = ask(method=method, return_logits=True)
    assert found.logits.shape == (3, 300)
    assert found.logits.argmax(1).tolist() == found.ids
    # autograd takes them
    assert (found.logits * torch.ones(300, requires_grad=True)).sum().backward() is None


def test_answer_of_one_chunk_is_that_of_full_attention(ask):
    found, full = ask(return_logits=True), ask(method="full", return_logits=True)
    assert found.text == full.text
    assert torch.allclose(found.logits, full.logits, atol=1e-4)
    assert full.kept_chunks is None
    assert full.kept_tokens == 1 + len(TEXT)


def test_integers_of_every_library_are_ids_and_borders(ask, loaded):
    ids = loaded[1](TEXT, add_special_tokens=False).input_ids
    plain = ask(ids, chunks=[(0, 100), (100, 360)])
    for context in (
        np.array(ids),
        np.array([ids]),
        [*np.array(ids, dtype=np.uint16)],
        [*torch.tensor(ids)],
        tuple(ids),
    ):
        for chunks in (np.array([(0, 100), (100, 360)]), [torch.tensor([0, 100]), [np.int64(100), np.int32(360)]]):
            assert same(ask(context, chunks=chunks, new_tokens=np.int64(3)), plain)


def test_what_is_no_model_or_no_tokenizer_is_refused_by_name(loaded):
    model, tokenizer = loaded
    for other in (None, "gpt2", model.model, torch.nn.Linear(1, 1), tokenizer):
        with pytest.raises(ConfigError, match=rf"^answer: model: .*ForCausalLM, got {type(other).__name__}; load it "):
            answer(other, tokenizer, context=TEXT, question=QUESTION)
    for other in (None, "gpt2", str.split, model, AutoTokenizer, type(tokenizer)):
        with pytest.raises(ConfigError, match=rf"^answer: tokenizer: .*, got {type(other).__name__}; load the model's"):
            answer(model, other, context=TEXT, question=QUESTION)


def test_a_tokenizer_of_another_model_is_refused_for_its_ids(loaded):
    small = make_runner(vocab_size=100).model
    with pytest.raises(ConfigError, match=r"^answer: context: token ids of 0…\d+, got \d+; use the model's own token"):
        answer(small, loaded[1], context=TEXT + "é", question=QUESTION)


@pytest.mark.parametrize("new_tokens", [1, 2, 5])
def test_answer_has_as_many_tokens_as_asked(ask, new_tokens):
    assert len(ask(new_tokens=new_tokens, method="full").ids) == new_tokens


def test_presets_go_by_the_models_own_name(ask):
    # the released runner cuts Llama 2 into chunks of equal characters
    found = ask(preset="official-longbench", chunk_tokens=200)
    assert [c.characters for c in found.chunks] == [(0, 180), (180, 360)]
    assert ask(split="chars", chunk_tokens=100).chunks[0].characters == (0, 90)
    whole = ask(preset="official-longbench")
    assert len(whole.chunks) == 1
    assert whole.warnings == ["chunk_tokens 3600 cut to 1014: 1024 trained positions"]


@pytest.mark.parametrize("owner", ["tokenizer", "generation config"])
def test_answer_ends_where_tokenizer_or_generation_config_says(ask, loaded, monkeypatch, owner):
    found = ask(method="full")
    model, tokenizer = loaded
    if owner == "tokenizer":
        monkeypatch.setattr(type(tokenizer), "eos_token_id", found.ids[0], raising=False)
    else:
        monkeypatch.setattr(model.generation_config, "eos_token_id", found.ids[0])
    assert ask(method="full").ids == found.ids[:1]
    assert ask(method="full").decode_ms == []


def test_a_model_without_a_generation_config_answers(ask, model, monkeypatch):
    plain = ask(method="full")
    monkeypatch.setattr(model, "generation_config", None)
    assert same(ask(method="full"), plain)


def test_a_head_of_another_dtype_is_named_with_the_way_out(loaded):
    mixed = copy.deepcopy(loaded[0]).to(torch.bfloat16)
    mixed.lm_head.float()
    with pytest.raises(
        ConfigError,
        match=r"weights of one dtype, got embeddings in torch.bfloat16 and a head in torch.float32; "
        r"call model.to\(torch.bfloat16\)",
    ):
        answer(mixed, loaded[1], context=TEXT, question=QUESTION)


def test_an_answer_that_is_not_finite_is_an_error(ask, loaded):
    weight = loaded[0].get_input_embeddings().weight
    used = loaded[1](QUESTION, add_special_tokens=False).input_ids[0]
    row = weight[used].detach().clone()
    with torch.no_grad():
        weight[used] = torch.nan
    try:
        for method in ("full", "parallel_comp"):
            with pytest.raises(NotFinite, match=r"finite .*, got NaN or infinity.* the embeddings"):
                ask(method=method, **({} if method == "full" else TWO))
    finally:
        with torch.no_grad():
            weight[used] = row


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"method": "parallel_com"}, ConfigError, 'answer: method: unknown method "parallel_com"; did you mean'),
        ({"keeep": 1}, ConfigError, 'answer: parallel_comp: unknown key "keeep"; did you mean "keep"'),
        ({"backend": "hip"}, BackendUnavailable, "ops: backend hip must be able to run here"),
        ({"new_tokens": 0}, ConfigError, "answer: new_tokens: a number of at least 1, got 0; "),
        ({"new_tokens": -1}, ConfigError, "answer: new_tokens: a number of at least 1, got -1; "),
        ({"context": 3}, ConfigError, "answer: context: a text or its token ids, got int; "),
        ({"context": torch.ones(3)}, ConfigError, r"answer: context: .*, got a tensor \[3\] of torch.float32; "),
        ({"context": np.ones(3)}, ConfigError, r"answer: context: .*, got an array \[3\] of float64; "),
        ({"context": torch.tensor([True])}, ConfigError, r"answer: context: .*, got a tensor \[1\] of torch.bool; "),
        ({"context": np.array(["a"])}, ConfigError, r"answer: context: .*, got an array \[1\] of <U1; "),
        ({"context": TEXT.encode()}, ConfigError, "answer: context: a text or its token ids, got bytes; "),
        ({"question": bytearray(b"why")}, ConfigError, "answer: question: .*, got bytearray; "),
        ({"context": ""}, ConfigError, "answer: context: a token at least to read, got none; "),
        ({"context": [256]}, ConfigError, "answer: context: a token at least to read, got none; "),
        ({"context": [], "method": "full"}, ConfigError, "answer: context: a token at least to read, got none; "),
        ({"new_tokens": 1.0}, ConfigError, "answer: new_tokens: a number of at least 1, got 1.0; "),
        ({"new_tokens": True}, ConfigError, "answer: new_tokens: a number of at least 1, got True; "),
        ({"chunks": 3}, ConfigError, r"answer: chunks: a list of pairs \(start, end\), got int; "),
        ({"chunks": "all"}, ConfigError, r"answer: chunks: a list of pairs \(start, end\), got str; "),
        ({"chunks": [0, 360]}, ConfigError, r"chunks: pairs of whole numbers .*, got 0 as chunk 0; "),
        ({"chunks": [(0, 9), (9,)]}, ConfigError, r"chunks: pairs of whole numbers .*, got \(9,\) as chunk 1; "),
        ({"chunks": [(0, 9, 360)]}, ConfigError, r"chunks: pairs of whole numbers .*, got \(0, 9, 360\) as chunk 0; "),
        ({"chunks": [(0, 360.0)]}, ConfigError, r"chunks: pairs of whole numbers .*, got \(0, 360.0\) as chunk 0; "),
        (
            {"chunks": [(False, 360)]},
            ConfigError,
            r"chunks: pairs of whole numbers .*, got \(False, 360\) as chunk 0; ",
        ),
        (
            {"chunks": [("0", "360")]},
            ConfigError,
            r"chunks: pairs of whole numbers .*, got \('0', '360'\) as chunk 0; ",
        ),
        (
            {"chunks": np.array([[0.0, 360.0]])},
            ConfigError,
            r"chunks: pairs of whole numbers .*, got \[0.0, 360.0\] as chunk 0; ",
        ),
        ({"question": ["why"]}, ConfigError, "answer: question: .*, got list of other things; "),
        ({"question": [300]}, ConfigError, "answer: question: token ids of 0…299, got 300; "),
        ({"question": ""}, ConfigError, "a query of at least one token, got none; "),
        ({"chunks": [(0, 3), (4, 360)]}, ConfigError, r"from 0 to 360, got \(4, 360\) behind 3; "),
        ({"chunks": [(0, 3), (3, 3), (3, 360)]}, ConfigError, r"from 0 to 360, got \(3, 3\) behind 3; "),
        ({"chunks": [(0, 3)]}, ConfigError, "spans from 0 to 360, got the last end at 3; "),
        ({"chunks": []}, ConfigError, "spans from 0 to 360, got the last end at 0; "),
        ({"chunks": [(0, 360)], "method": "full"}, ConfigError, "a method that reads chunks, got full; "),
        ({"chunks": [(0, 360)], "chunk_tokens": 9}, ConfigError, "chunks or chunk_tokens, got both; "),
        ({"context": "a" * 2000, "chunks": [(0, 2000)]}, ConfigError, "at most 1015 tokens .* got 2000 in chunk 0; "),
        ({"preset": "official-longbench", "method": "full"}, ConfigError, 'answer: full: unknown key "preset"'),
    ],
)
def test_answer_says_what_is_wrong(ask, more, error, message):
    with pytest.raises(error, match=message) as found:
        ask(**more)
    assert "\n" not in str(found.value)
