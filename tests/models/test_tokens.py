from types import SimpleNamespace

import pytest
from real_data import smollm2_tokenizer
from stored_model import WORDS, word_tokenizer
from tokenizers import processors

from pcbench.errors import ConfigError
from pcbench.models.tokens import ByteTokenizer, HFTokenizer

TEXTS = ["Hello the world\n\n\nNow 你好, naïve ✓.", "", " begins with a space", "def f(x):\n\treturn  x\n"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", [ByteTokenizer, smollm2_tokenizer], ids=["bytes", "smollm2"])
def test_encode_with_starts_gives_the_same_ids_and_where_they_begin(kind, text):
    tokenizer = kind()
    ids, starts = tokenizer.encode_with_starts(text)
    assert ids == tokenizer.encode(text)
    assert starts == sorted(starts)
    assert starts[:1] == [0][: len(ids)]
    for i, start in enumerate(starts):
        # several ids may begin in one character, and an earlier one may hold its first bytes
        rest = tokenizer.decode(ids[i:])
        if i == 0 or (starts[i - 1] < start and rest[0] != "\ufffd"):
            assert rest == text[start:]


def test_a_tokenizer_that_cannot_say_where_ids_begin_gives_none(monkeypatch):
    tokenizer = smollm2_tokenizer()
    monkeypatch.setattr(type(tokenizer.tokenizer), "is_fast", False)
    assert tokenizer.encode_with_starts("some text") == (tokenizer.encode("some text"), None)


def test_chat_stands_around_the_message_as_the_model_was_trained():
    before, after = smollm2_tokenizer().chat("Read: ", " What?")
    assert before.startswith("<|im_start|>system\n")
    assert before.endswith("<|im_start|>user\nRead: ")
    assert after == " What?<|im_end|>\n<|im_start|>assistant\n"
    ids = smollm2_tokenizer().encode(f"{before}x{after}")
    assert ids.count(smollm2_tokenizer().end_id) == 2


def test_chat_follows_templates_that_strip_and_refuses_those_that_repeat(monkeypatch):
    tokenizer = smollm2_tokenizer()
    monkeypatch.setattr(tokenizer.tokenizer, "chat_template", "[{{ messages[0].content | trim }}]")
    assert tokenizer.chat(" a ", " b ") == ("[a ", " b]")
    monkeypatch.setattr(tokenizer.tokenizer, "chat_template", "{{ messages[0].content * 2 }}")
    with pytest.raises(ConfigError, match="a chat template that holds the message once, got 2 times"):
        tokenizer.chat("a", "b")
    monkeypatch.setattr(tokenizer.tokenizer, "chat_template", None)
    assert tokenizer.chat("a", "b") is None


TODAY = "{{ strftime_now('%d %b %Y') }}: {{ messages[0].content }}"


def chatting(template):
    return HFTokenizer(word_tokenizer(chat_template=template))


def test_a_chat_template_is_told_the_same_date_whenever_it_is_asked():
    assert chatting(TODAY).chat("a", "b") == ("26 Jul 2024: a", "b")
    assert chatting(TODAY).chat("a", "b", date="2025-01-02") == ("02 Jan 2025: a", "b")
    often = """\n {% if strftime_now is defined %}
 {%- set day = strftime_now("%A, %-d %B %y, 100%%d %H:%M") -%}{{ day + "!" }}{% endif %}
{% for m in messages %}{{ strftime_now("%F") + m.content }}{% endfor %}"""
    # nothing else of the text changes
    plain = often.replace("strftime_now is", "messages is").replace('strftime_now("%F")', "'2024-07-26'")
    plain = plain.replace('strftime_now("%A, %-d %B %y, 100%%d %H:%M")', "'Friday, 26 July 24, 100%d 00:00'")
    assert chatting(often).chat("a", "b") == chatting(plain).chat("a", "b")


def test_a_chat_template_is_given_arguments_that_it_reads():
    tokenizer = chatting(
        "{{ messages[0].content }}{% if not enable_thinking | default(true) %}<think></think>{% endif %}"
    )
    assert tokenizer.chat("a", "b") == ("a", "b")
    assert tokenizer.chat("a", "b", arguments={"enable_thinking": False}) == ("a", "b<think></think>")
    for name in ("enable_thinkin", "thinking", "messages", "strftime_now", "tokenize", "chat_template"):
        with pytest.raises(ConfigError) as found:
            tokenizer.chat("a", "b", arguments={name: "x"})
        assert "\n" not in str(found.value)
    with pytest.raises(ConfigError, match="names that its chat template reads, got 'thoughts'"):
        tokenizer.chat("a", "b", arguments={"thoughts": 1})


def test_of_several_chat_templates_one_is_named():
    tokenizer = chatting({"rag": "R{{ messages[0].content }}", "tool_use": "T{{ messages[0].content }}"})
    with pytest.raises(
        ConfigError,
        match=r"a chat template named 'default', got rag, tool_use; choose one by suite.chat_arguments = "
        r'\{ chat_template = "NAME" \}, or turn the template off by suite.chat = "never"',
    ):
        tokenizer.chat("a", "b")
    assert tokenizer.chat("a", "b", arguments={"chat_template": "rag"}) == ("Ra", "b")
    both = chatting({"default": "D{{ messages[0].content }}", "rag": "R{{ messages[0].content }}"})
    assert both.chat("a", "b") == ("Da", "b")


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ raise_exception('only\nsystem prompts') }}", "TemplateError: only"),
        ("{% if %}", "TemplateSyntaxError: "),
        ("{{ messages[7].content }}", "UndefinedError: "),
        ("{{ 1 // 0 }}", "ZeroDivisionError: "),
        ("{{ messages[0].content.join }}", "0 times"),
    ],
)
def test_a_chat_template_that_fails_is_one_line_with_the_way_out(template, why):
    with pytest.raises(ConfigError, match=f'{why}.*; turn the template off by suite.chat = "never"$') as found:
        chatting(template).chat("a", "b")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("starts", [(), ("<s>",), ("<s>", "<g>")])
def test_start_ids_are_what_the_tokenizer_puts_in_front_and_not_what_it_calls_its_bos(starts):
    tokenizer = HFTokenizer(word_tokenizer(starts, bos_token="<g>"))
    assert tokenizer.start_ids == [WORDS.index(word) for word in starts]
    assert tokenizer.bos_id == WORDS.index("<g>")
    assert smollm2_tokenizer().start_ids == []


def test_ids_behind_a_text_are_no_start_ids():
    ended = word_tokenizer(("<s>",))
    ended.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 4)]
    )
    assert ended("a").input_ids == [0, 2, 4]
    assert HFTokenizer(ended).start_ids == [0]


def test_a_tokenizer_that_changes_a_text_with_its_starts_is_refused():
    class Other:
        name_or_path = "other"

        def __call__(self, text, add_special_tokens=True):
            return SimpleNamespace(input_ids=[7, 8] if add_special_tokens else [9])

    with pytest.raises(ConfigError, match=r"other: a tokenizer that puts ids around those of a text, got \[7, 8\]"):
        HFTokenizer(Other())


def test_bytes_have_no_chat_template():
    assert ByteTokenizer().chat("a", "b") is None
    assert ByteTokenizer().end_id is None
