"""Tokenizers behind one small surface."""

from collections.abc import Sequence
from typing import Any

__all__ = ["ByteTokenizer", "HFTokenizer"]


class HFTokenizer:
    """A Hugging Face tokenizer without its special tokens; `start_ids` are those it puts first (the BOS, or none)."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        with_specials = tokenizer("a").input_ids
        plain = self.encode("a")
        self.start_ids: list[int] = with_specials[: with_specials.index(plain[0])]

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text


class ByteTokenizer:
    """UTF-8 bytes as ids 0…255, for models without a vocabulary of their own."""

    def __init__(self) -> None:
        self.start_ids: list[int] = []

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i < 256).decode(errors="replace")
