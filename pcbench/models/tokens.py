"""Tokenizers behind one small surface."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from pcbench.errors import ConfigError

__all__ = ["ByteTokenizer", "HFTokenizer"]

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

    def chat(self, before: str, after: str) -> tuple[str, str] | None:
        if not self.tokenizer.chat_template:
            return None
        message = {"role": "user", "content": f"{before}{CONTEXT}{after}"}
        text: str = self.tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        if text.count(CONTEXT) != 1:
            raise ConfigError(
                f"{self.name}: a chat template that holds the message once, got {text.count(CONTEXT)} times; "
                'turn the template off by chat = "never"'
            )
        opened, _, closed = text.partition(CONTEXT)
        return opened, closed


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

    def chat(self, before: str, after: str) -> tuple[str, str] | None:
        return None
