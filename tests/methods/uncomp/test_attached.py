"""UNComp inside a Hugging Face model."""

import pytest

from pcbench import attach
from pcbench.errors import ConfigError
from pcbench.models.interface import CACHE
from tests.models.attach.test_attached import assert_same, generated, kept, make_batch, make_model, row

GROUPS = ["0-11", "-011"]


def test_a_budget_that_holds_everything_generates_as_the_model_itself():
    model, batch = make_model(), make_batch()
    truth = generated(model, batch)
    with attach(model, "uncomp", tokens=200, order="random"):
        assert_same(generated(model, batch), truth)


@pytest.mark.parametrize("groups", [GROUPS, ["0011", "1100"]])
def test_rows_of_a_padded_batch_keep_what_they_keep_alone(groups):
    model = make_model(num_attention_heads=8, num_key_value_heads=4)
    batch = make_batch((9, 60, 41, 22))
    with attach(model, "uncomp", tokens=20, head_groups=groups):
        together = generated(model, batch, tokens=12)
        for i in range(4):
            alone = generated(model, row(batch, i), tokens=12)
            assert together.sequences[i, 60:].tolist() == alone.sequences[0, -12:].tolist()
            assert kept(together[CACHE])[i] == kept(alone[CACHE])[0]


def test_stages_need_a_forward_that_leaves_tokens_out():
    with pytest.raises(ConfigError, match=r"attach: method: one of snapkv, .*uncomp, .* got uncomp_stage; name one"):
        attach(make_model(), "uncomp_stage", stages=[2], order="random")
