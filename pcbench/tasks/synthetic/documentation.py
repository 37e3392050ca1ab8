"""English prose of every installation: the paragraphs of CPython's documentation that its versions share."""

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.resources import files

from pcbench.errors import DataMissing

__all__ = ["digest", "lines", "paragraphs", "version"]


def paragraphs(topics: Mapping[str, str]) -> dict[str, str]:
    """Digest → paragraph of documentation given as `pydoc_data.topics.topics`, topics by name."""
    found = (part.strip("\n") for name in sorted(topics) for part in re.split(r"\n\s*\n", topics[name]))
    return {digest(paragraph): paragraph for paragraph in found}


def digest(text: str) -> str:
    """The name of a paragraph in tasks/data/prose.txt, which tools/prose.py writes."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@cache
def lines() -> list[str]:
    """The listed paragraphs' lines in the list's order, an empty one after each paragraph.

    Raises:
        DataMissing: this Python's documentation holds none of them.
    """
    try:
        here = paragraphs(import_module("pydoc_data.topics").topics)
    except ModuleNotFoundError:
        here = {}
    listed = files("pcbench").joinpath("tasks/data/prose.txt").read_text().split()
    found = [here[name] for name in listed if name in here]
    if not found:
        where = "pydoc_data.topics of this Python"
        raise DataMissing(f"{where}: must hold CPython's documentation, got none of it; install the whole library")
    return "".join(f"{paragraph}\n\n" for paragraph in found).splitlines(keepends=True)


@cache
def version() -> str:
    """Names the lines: where the documentation lacks a paragraph they are others."""
    return digest("".join(lines()))
