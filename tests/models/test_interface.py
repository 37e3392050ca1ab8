import inspect
import warnings

import pytest
import torch
from deprecations import DeprecatedCall
from tiny import make_runner
from transformers import LlamaModel
from transformers.utils import logging

from pcbench.models.interface import CACHE
from pcbench.models.quiet import quietly


def test_the_caches_name_is_the_one_of_the_installed_version():
    assert CACHE in inspect.signature(inspect.unwrap(LlamaModel.forward)).parameters


def test_the_caches_old_name_is_refused_where_it_is_deprecated():
    runner = make_runner()
    output = runner.model(input_ids=torch.arange(3)[None], use_cache=True)
    if CACHE == "past_key_values":
        assert output.past_key_values is output[CACHE]
        return
    with pytest.raises(DeprecatedCall):
        output.past_key_values  # noqa: B018
    with pytest.raises(FutureWarning, match="deprecated"):
        runner.model(input_ids=torch.arange(3)[None], past_key_values=output[CACHE])


@pytest.mark.parametrize("say", ["warning", "warning_once"])
def test_what_is_logged_as_deprecated_fails_the_test_each_time(say):
    logger = logging.get_logger("transformers.models.llama")
    for _ in range(2):
        with pytest.raises(DeprecatedCall):
            getattr(logger, say)("`old` is deprecated, use `new`")


def test_what_is_warned_as_deprecated_by_other_modules_fails_the_test():
    with pytest.raises(FutureWarning):
        warnings.warn_explicit("`old` is deprecated", FutureWarning, "elsewhere.py", 1, "elsewhere")


@pytest.mark.parametrize("library", ["transformers.models.llama", "huggingface_hub.file_download", "accelerate.big"])
def test_what_is_deprecated_fails_the_test_while_nothing_is_printed_too(library, capfd):
    logger = logging.get_logger(library)
    with quietly():
        logger.warning("something else")
        warnings.warn("something else", UserWarning, stacklevel=1)
        with pytest.raises(DeprecatedCall):
            logger.warning("`old` is deprecated, use `new`")
        with pytest.raises(FutureWarning):
            warnings.warn("`old` is deprecated", FutureWarning, stacklevel=1)
    assert capfd.readouterr() == ("", "")
