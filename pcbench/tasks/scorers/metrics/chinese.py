"""Chinese text as words, by jieba; the only place that knows it."""

import logging
from functools import cache
from typing import Any

__all__ = ["words"]


@cache
def _segmenter() -> Any:
    import jieba

    jieba.setLogLevel(logging.WARNING)
    return jieba


def words(text: str) -> list[str]:
    """The words of a text in order, spaces and punctuation included.

    Needs the extra `zh`.
    """
    return list(_segmenter().cut(text, cut_all=False))
