"""Where a record's prompt is cut, and where its context begins and ends."""

import json

import pytest
from tasks.made_records import CONTEXT, longbench_record, write

from pcbench.errors import ConfigError
from pcbench.models.tokens import ByteTokenizer
from pcbench.tasks import example

NAME = "longbench/qasper"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PCBENCH_DATA", str(tmp_path))
    (tmp_path / "LongBench/config").mkdir(parents=True)
    (tmp_path / "LongBench/config/dataset2prompt.json").write_text('{"qasper": "Read:\\n{context}\\nAsked: {input}"}')
    write(tmp_path, NAME, [longbench_record()])
    return tmp_path


def made(tokenizer, tokens=60_000, **more):
    return example(NAME, tokenizer, **(dict(context_tokens=tokens, new_tokens=10, seed=0, index=0) | more))


class Pairs(ByteTokenizer):
    """Two equal bytes that follow each other are one id, also across the parts of a prompt; 999 begins a prompt."""

    def __init__(self, sees_starts=True):
        super().__init__()
        self.sees_starts = sees_starts
        self.start_ids = [999]

    def encode(self, text):
        return [pair for pair, _ in self.pairs(text)]

    def encode_with_starts(self, text):
        return self.encode(text), [start for _, start in self.pairs(text)] if self.sees_starts else None

    def pairs(self, text):
        ids, starts = list(text.encode()), [i for i, char in enumerate(text) for _ in char.encode()]
        found, i = [], 0
        while i < len(ids):
            twice = ids[i : i + 2] == [ids[i]] * 2
            found.append((ids[i] + 256 * twice, starts[i]))
            i += 1 + twice
        return found

    def decode(self, ids):
        return super().decode([b for i in ids if i < 512 for b in [i % 256] * (1 + i // 256)])


class Chat(ByteTokenizer):
    """A model with a chat template."""

    def chat(self, before, after, **told):
        return f"<user>{before}", f"{after}<end>"


class Begun(ByteTokenizer):
    """A model whose chat template brings a BOS, id 1, as text."""

    def __init__(self, start_ids, bos_id):
        super().__init__()
        self.start_ids, self.bos_id = start_ids, bos_id

    def chat(self, before, after, **told):
        return f"\1<user>{before}", f"{after}<end>"


def whole(e):
    return [*e.prefix, *e.context, *e.query]


def test_ids_are_those_of_the_text_tokenised_whole():
    tokenizer = Pairs()
    e = made(tokenizer)
    asked = f"Read:\n{CONTEXT}\nAsked: Who asks?"
    assert whole(e) == [999, *tokenizer.encode(asked)]
    assert e.as_whole
    assert e.tokens_before == len(whole(e))
    # the newlines that end the context and begin the question are one id, which belongs to where it begins
    assert e.context[-1] == 256 + 10
    assert tokenizer.decode(e.query) == "Asked: Who asks?"
    assert e.context_characters[:4] == (0, 1, 2, 3)
    assert e.context_characters[-1] == len(CONTEXT) - 1


def test_a_tokenizer_that_sees_no_starts_takes_the_parts_apart_and_says_so(folder):
    tokenizer = Pairs(sees_starts=False)
    e = made(tokenizer)
    assert e.as_whole is False
    assert e.context_characters is None
    assert tokenizer.decode(e.context) == CONTEXT
    assert whole(e) != [999, *tokenizer.encode(f"Read:\n{CONTEXT}\nAsked: Who asks?")]
    write(folder, NAME, [longbench_record(CONTEXT.strip())])
    assert made(tokenizer).as_whole


@pytest.mark.parametrize(
    "tokenizer", [ByteTokenizer(), Pairs(), Pairs(sees_starts=False)], ids=["bytes", "pairs", "apart"]
)
@pytest.mark.parametrize("tokens", [300, 1001, 5000])
def test_the_middle_is_cut_out_of_the_context(tokenizer, tokens):
    e = made(tokenizer, tokens)
    assert len(whole(e)) + e.new_tokens <= tokens
    assert len(whole(e)) + e.new_tokens >= tokens - 6
    assert e.tokens_before == made(tokenizer).tokens_before > tokens
    before, context, after = (tokenizer.decode(ids) for ids in (e.prefix, e.context, e.query))
    assert before == "Read:\n"
    assert after.strip() == "Asked: Who asks?"
    start = next(n for n in range(len(context), 0, -1) if CONTEXT.startswith(context[:n]))
    # an id of two newlines ends the context or begins the question
    assert CONTEXT.strip().endswith(context[start:].strip("\n\ufffd"))
    # the same on both sides
    sides = len(tokenizer.encode(before + context[:start])), len(tokenizer.encode(context[start:] + after))
    assert abs(sides[0] - sides[1]) <= 8


def test_a_prompt_that_just_fits_is_left_alone():
    tokenizer = ByteTokenizer()
    tokens = made(tokenizer).tokens_before + 10
    assert len(whole(made(tokenizer, tokens))) + 10 == tokens
    assert len(whole(made(tokenizer, tokens - 1))) + 10 < tokens


@pytest.mark.parametrize("tokens", [22, 11, 5])
def test_a_length_without_room_for_any_context_is_an_error(tokens):
    with pytest.raises(ConfigError, match=rf"context_tokens: at least about \d+ for .* {NAME}, got {tokens}; make it"):
        made(ByteTokenizer(), tokens)


TEXTS = {
    "question": ("Read:\n", CONTEXT, "\nAsked: " + "Why so? " * 200),
    "instruction": ("Please read: " * 100, CONTEXT, "\nAsked: Who asks?"),
    "short context": ("Read:\n", "One line.", "\nAsked: " + "Why so? " * 200),
}


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), Pairs(), Pairs(False), Chat()])
@pytest.mark.parametrize("long", TEXTS)
def test_a_long_text_around_the_context_loses_its_middle_too(folder, tokenizer, long):
    before, context, after = TEXTS[long]
    template = {"qasper": f"{before}{{context}}{{input}}"}
    (folder / "LongBench/config/dataset2prompt.json").write_text(json.dumps(template))
    write(folder, NAME, [longbench_record(context) | {"input": after}])
    e = made(tokenizer, 810)
    assert 794 <= len(whole(e)) <= 800
    prefix, middle, query = (tokenizer.decode(ids) for ids in (e.prefix, e.context, e.query))
    prefix, query = prefix.removeprefix("<user>"), query.removesuffix("<end>")
    ids = [*tokenizer.start_ids, *tokenizer.encode(f"{before}{context}{after}")]
    cut = [tokenizer.decode(ids[:half]) + tokenizer.decode(ids[-half:]) for half in range(380, 401)]
    assert f"{prefix}{middle}{query}" in cut
    if long == "instruction":
        assert before.startswith(prefix)
        assert len(prefix) < len(before) / 2
        assert (middle.strip("\ufffd\n") in context, query.strip()) == (True, "Asked: Who asks?")
    elif long == "question":
        assert (prefix, middle.strip("\ufffd") in context) == (before, True)
        assert after.endswith(query)
        assert len(query) < len(after) / 2
    else:
        assert (prefix, middle.strip()) == (before, context)
        assert (query.strip()[:6], query[-8:]) == ("Asked:", "Why so? ")


def test_an_official_limit_without_room_for_any_context_is_named(folder):
    with pytest.raises(ConfigError, match=rf"prompt_tokens: at least about 14 for task {NAME}, got 8"):
        made(ByteTokenizer(), prompt_tokens=8)


def test_the_least_length_that_an_error_names_is_enough():
    tokens = 5
    for _ in range(4):
        try:
            assert len(made(ByteTokenizer(), tokens).context) > 0
            return
        except ConfigError as error:
            tokens = int(str(error).split("at least about ")[1].split()[0])
    raise AssertionError(tokens)


@pytest.mark.parametrize("tokens", [60_000, 700])
def test_a_chat_template_stands_around_what_is_left(tokens):
    e = made(Chat(), tokens)
    before, after = Chat().decode(e.prefix), Chat().decode(e.query)
    assert (before, after) == ("<user>Read:\n", "\nAsked: Who asks?<end>")
    assert len(whole(e)) <= tokens - 10
    assert e.tokens_before == len(f"{before}{CONTEXT}{after}".encode())
    plain = made(Chat(), tokens, chat="never")
    assert Chat().decode(plain.prefix) == "Read:\n"
    if tokens == 700:
        # the template takes its room from the context, whose halves are equally long
        assert len(plain.context) - len(e.context) == len("<user><end>") + 1


def test_prompt_tokens_are_those_of_the_text_without_template():
    tokenizer = Chat()
    e = made(tokenizer, prompt_tokens=500)
    assert len(whole(e)) == 500 + len("<user><end>")
    assert len(whole(made(tokenizer))) == made(tokenizer).tokens_before == e.tokens_before
    assert len(whole(made(tokenizer, 400, prompt_tokens=500))) <= 390


@pytest.mark.parametrize(
    ("name", "tokenizer", "chat", "stands", "warnings"),
    [
        (NAME, Chat(), "auto", True, ()),
        (NAME, Chat(), "never", False, ()),
        (NAME, ByteTokenizer(), "auto", False, ("no chat template: asked plainly",)),
        (NAME, ByteTokenizer(), "never", False, ()),
        ("longbench/trec", Chat(), "auto", None, ()),
        ("longbench/trec", Chat(), "always", True, ()),
        ("longbench/trec", ByteTokenizer(), "always", None, ("no chat template: asked plainly",)),
    ],
)
def test_a_chat_template_that_is_not_there_is_told(folder, name, tokenizer, chat, stands, warnings):
    prompts = {"qasper": "{context}{input}", "trec": "{context}{input}"}
    (folder / "LongBench/config/dataset2prompt.json").write_text(json.dumps(prompts))
    write(folder, name, [longbench_record()])
    e = example(name, tokenizer, context_tokens=60_000, new_tokens=10, seed=0, index=0, chat=chat)
    assert (e.chat, e.warnings) == (stands, warnings)


def test_warnings_tell_of_parts_and_of_a_lost_middle():
    assert made(Pairs(), chat="never").warnings == ()
    apart = made(Pairs(False), chat="never")
    assert apart.warnings == ("tokenised in parts: ids may differ from the official prompt's",)
    cut = made(Pairs(), 700, chat="never")
    assert cut.warnings == (f"its middle was cut out ({len(whole(cut))} of {cut.tokens_before} tokens kept)",)


@pytest.mark.parametrize(
    ("start_ids", "bos_id", "plain", "chatted"),
    # what the tokenizer puts there, what it only calls its BOS, and neither
    [([1], 1, 1, 1), ([], 1, 0, 1), ([], None, 0, 0), ([1, 60], None, 2, 2), ([5], 1, 1, 1), ([5], 5, 1, 0)],
)
def test_the_ids_that_begin_a_prompt_are_counted_whoever_put_them_there(start_ids, bos_id, plain, chatted):
    tokenizer = Begun(start_ids, bos_id)
    assert made(tokenizer, chat="never").start_tokens == plain
    e = made(tokenizer, chat="always")
    assert (e.start_tokens, e.prefix[:2]) == (chatted, (1, 60))
    assert example("passkey", tokenizer, context_tokens=500, new_tokens=4, seed=0, index=0).start_tokens == plain


def test_a_tokenizer_without_starts_counts_them_too():
    assert made(Pairs(), chat="never").start_tokens == made(Pairs(False), chat="never").start_tokens == 1
