"""Every family of causal language models of the installed transformers: right, or refused by name."""

from functools import cache

import pytest
import torch
import transformers
from model_families import FAMILIES, PAGE, build, judge, page, read_page, with_short_lengths
from packaging.version import Version
from tiny import continued

from pcbench import ops
from pcbench.methods.full import Full
from pcbench.methods.parallel_comp import ParallelComp
from pcbench.models.runner import HFRunner
from pcbench.models.support import read_spec
from pcbench.models.tokens import ByteTokenizer
from pcbench.types import Prompt

VERSION, WRITTEN = read_page(PAGE.read_text(encoding="utf-8"))
SAME_VERSION = transformers.__version__ == VERSION
NEW = [family for family in FAMILIES if family not in WRITTEN]
RIGHT = [family for family in FAMILIES if WRITTEN.get(family, ("",))[0] == "right"]
OTHERS = [family for family in FAMILIES if family not in {*RIGHT, *NEW}]
# whose faults the config does not tell
HIDDEN = ["diffllama", "falcon", "gpt_neox_japanese", "hrm_text", "jetmoe"]
SAMPLE = {*HIDDEN, *OTHERS[::12]}

judged = cache(judge)


@torch.inference_mode()
def eager_logits(model, ids):
    model.config._attn_implementation = "eager"
    return model(input_ids=ids[None], use_cache=False).logits[0].double()


def close(ours, truth):
    return float((ours - truth).norm()) <= 1e-4 * float(truth.norm())


def assert_answers_are_those_of_eager_attention(family, config):
    """By code of this test alone: one chunk that holds the whole context leaves out nothing."""
    model = build(config)
    runner = HFRunner(model, read_spec(family, model), ByteTokenizer(), ops.backend("reference"))
    generator = torch.Generator().manual_seed(3)
    prompt = Prompt(*[torch.randint(4, 150, (n,), generator=generator) for n in (2, 17, 4)], new_tokens=3)
    chunked = ParallelComp(ParallelComp.Config(chunk_tokens=17, keep=1).resolve(runner.spec, "cpu"), runner)
    for method in (chunked, Full(Full.Config(), runner)):
        prefilled, ours, tokens = continued(method, prompt)
        ids = torch.cat([prompt.prefix, prompt.context, prompt.query, torch.tensor(tokens)])
        truth = eager_logits(model, ids)
        assert close(ours, truth[-4:]), method
        assert tokens == truth[-4:-1].argmax(-1).tolist()
        if method is chunked:
            nll = torch.nn.functional.cross_entropy(truth[18:22], prompt.query)
            assert prefilled.chunk_scores.tolist() == pytest.approx([float(nll)], rel=1e-4)


def assert_the_table_names(families, version):
    """An older transformers than the table's may have families that were taken away since."""
    missing = [family for family in families if family not in WRITTEN]
    if Version(version) >= Version(VERSION):
        assert not missing, f"docs/models.md knows no {', '.join(missing)}; run `python tools/model_families.py`"


def test_the_table_names_every_family_of_this_and_of_newer_versions():
    assert_the_table_names(FAMILIES, transformers.__version__)


def test_a_new_family_of_a_newer_version_is_named():
    assert_the_table_names([*FAMILIES, "new_family"], "4.0")
    with pytest.raises(AssertionError, match=r"knows no new_family; run `python tools/model_families\.py`"):
        assert_the_table_names([*WRITTEN, "new_family"], "99.0")


@pytest.mark.parametrize("family", RIGHT + NEW)
def test_a_family_that_is_right_answers_as_eager_attention(family):
    verdict = judged(family)
    if family in WRITTEN:
        assert (verdict.state, verdict.why) == WRITTEN[family]
    # of a family that the table does not know, one of two
    assert verdict.state in ("right", "refused")
    if verdict.state == "right":
        assert_answers_are_those_of_eager_attention(family, lambda: with_short_lengths(verdict.config))


@pytest.mark.slow
@pytest.mark.parametrize("family", RIGHT)
def test_a_family_that_is_right_is_right_with_weights_of_16_bits(family):
    model = build(judged(family).config).bfloat16()
    HFRunner(model, read_spec(family, model), ByteTokenizer(), ops.backend("reference")).verify()


@pytest.mark.parametrize("family", [pytest.param(f, marks=() if f in SAMPLE else pytest.mark.slow) for f in OTHERS])
def test_every_other_family_is_refused_by_name_in_one_line(family):
    verdict = judged(family)
    assert "\n" not in verdict.why
    if SAME_VERSION:
        assert (verdict.state, verdict.why) == WRITTEN[family]
    # another version may spell a reason otherwise, or support more
    if verdict.state == "right":
        assert_answers_are_those_of_eager_attention(family, lambda: with_short_lengths(verdict.config))
    else:
        assert verdict.why


@pytest.mark.slow
@pytest.mark.skipif(not SAME_VERSION, reason=f"docs/models.md was written for transformers {VERSION}")
def test_the_table_is_what_the_tool_writes():
    written = PAGE.read_text(encoding="utf-8")
    assert page(written, [judged(family) for family in FAMILIES]) == written
