"""Tokenizers behind one small surface."""

import re
import string
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import chain
from types import MappingProxyType
from typing import Any

from pcbench.errors import ConfigError, shown
from pcbench.models.quiet import quietly, said
from pcbench.types import CHAT_DATE

__all__ = ["ByteTokenizer", "HFTokenizer"]

NONE: Mapping[str, Any] = MappingProxyType({})
WITHOUT = 'turn the template off by suite.chat = "never"'
# stands before a chat template that asks for the date; the end of the line is the block's
CLOCK = """{% macro strftime_now(format) %}{% set made = namespace(text=format) %}\
{% for code, text in pcbench_date %}{% set made.text = made.text | replace(code, text) %}{% endfor %}\
{{ made.text }}{% endmacro %}
"""
# names of a template's that are set here
OURS = ("messages", "strftime_now", "add_generation_prompt", "tokenize", "conversation", "tools", "documents")
# stands in for the context while a chat template is filled in
CONTEXT = "\N{SYMBOL FOR RECORD SEPARATOR}context\N{SYMBOL FOR RECORD SEPARATOR}"


class HFTokenizer:
    """A Hugging Face tokenizer without its special tokens; `start_ids` are those it puts first (the BOS, or none)."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.start_ids = self._front("a")

    @property
    def name(self) -> str:
        return str(self.tokenizer.name_or_path)

    @property
    def end_id(self) -> int | None:
        found: int | None = self.tokenizer.eos_token_id
        return found

    @property
    def bos_id(self) -> int | None:
        found: int | None = self.tokenizer.bos_token_id
        return found

    def _front(self, text: str) -> list[int]:
        """The ids before those of a text; ids behind it, as an end of text, are no part of a prompt.

        Raises:
            ConfigError: the text's own ids are not among them.
        """
        whole, plain = self.tokenizer(text).input_ids, self.encode(text)
        for begin in range(len(whole) - len(plain) + 1):
            if plain and whole[begin : begin + len(plain)] == plain:
                return list(whole[:begin])
        raise ConfigError(
            f"{self.name}: a tokenizer that puts ids around those of a text, got {whole} for {plain}; "
            "choose another model"
        )

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def encode_with_starts(self, text: str) -> tuple[list[int], list[int] | None]:
        if not self.tokenizer.is_fast:
            return self.encode(text), None
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return encoded.input_ids, [start for start, _ in encoded.offset_mapping]

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def chat(
        self, before: str, after: str, *, date: str = CHAT_DATE, arguments: Mapping[str, Any] = NONE
    ) -> tuple[str, str] | None:
        if not self.tokenizer.chat_template:
            return None
        template = self._template(arguments)
        told = {name: value for name, value in arguments.items() if name != "chat_template"}
        if "strftime_now" in template:
            template, told = CLOCK + template, told | {"pcbench_date": _directives(date)}
        message = {"role": "user", "content": f"{before}{CONTEXT}{after}"}
        try:
            with quietly():
                text: str = self.tokenizer.apply_chat_template(
                    [message], chat_template=template, tokenize=False, add_generation_prompt=True, **told
                )
        # a template is a program, and may fail as it likes
        except Exception as error:
            raise ConfigError(
                f"{self.name}: a chat template that takes one message of a user, got {said(error)}; {WITHOUT}"
            ) from error
        if text.count(CONTEXT) != 1:
            raise ConfigError(
                f"{self.name}: a chat template that holds the message once, got {text.count(CONTEXT)} times; {WITHOUT}"
            )
        opened, _, closed = text.partition(CONTEXT)
        return opened, closed

    def _template(self, arguments: Mapping[str, Any]) -> str:
        """The text of the chat template that is asked for.

        Raises:
            ConfigError: there is none of that name, or it does not read one of the arguments.
        """
        templates = self.tokenizer.chat_template
        several = templates if isinstance(templates, dict) else {"default": templates}
        chosen = arguments.get("chat_template", "default")
        if chosen not in several:
            raise ConfigError(
                f"{self.name}: a chat template named {shown(chosen)}, got {', '.join(several)}; "
                f'choose one by suite.chat_arguments = {{ chat_template = "NAME" }}, or {WITHOUT}'
            )
        text: str = several[chosen]
        for name in arguments:
            if name != "chat_template" and (name in OURS or not re.search(rf"\b{re.escape(name)}\b", text)):
                raise ConfigError(
                    f"{self.name}: suite.chat_arguments: names that its chat template reads, got {shown(name)}; "
                    "leave it out"
                )
        return text


@cache
def _directives(date: str) -> list[list[str]]:
    """Every directive of strftime and what it makes of a day, in the order in which they are to be replaced."""
    day, flags, letters = datetime.fromisoformat(date), ("", *"-_0^#"), string.ascii_letters
    made = [[f"%{flag}{letter}", day.strftime(f"%{flag}{letter}")] for flag in flags for letter in letters]
    # a doubled percent sign is none that begins a directive
    return [["%%", "\0"], *made, ["\0", "%"]]


class ByteTokenizer:
    """UTF-8 bytes as ids 0…255, for models without a vocabulary of their own."""

    def __init__(self) -> None:
        self.name = "bytes"
        self.bos_id = self.end_id = None
        self.start_ids: list[int] = []

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_with_starts(self, text: str) -> tuple[list[int], list[int] | None]:
        return self.encode(text), [*chain(*([i] * len(char.encode()) for i, char in enumerate(text)))]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i < 256).decode(errors="replace")

    def chat(
        self, before: str, after: str, *, date: str = CHAT_DATE, arguments: Mapping[str, Any] = NONE
    ) -> tuple[str, str] | None:
        return None
