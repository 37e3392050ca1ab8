"""What cannot be attached, and what a forward with a method inside cannot do, is refused in one line."""

import pytest
import torch
from tiny import make_runner

from pcbench import attach
from pcbench.errors import BackendUnavailable, ConfigError
from pcbench.models.interface import CACHE
from tests.models.attach.test_attached import generated, make_batch, make_model, row

REFUSED = {
    "attention_mask: padding at the left alone, got another; set": lambda model, batch: model(
        **batch | {"attention_mask": batch["attention_mask"].flip(1)}
    ),
    r"attention_mask: \[3, 41\], a number for each token .* got \[3, 9\]; hand": lambda model, batch: model(
        **batch | {"attention_mask": batch["attention_mask"][:, :9]}
    ),
    "got dict; hand on the tokenizer's, and leave cache_implementation out": lambda model, batch: model(
        **batch | {"attention_mask": {"full_attention": None}}
    ),
    "position_ids: 0, 1, 2 … for the tokens of a row, got others; leave": lambda model, batch: model(
        **batch, position_ids=torch.arange(41)[None] + 1
    ),
    "attention without weights, got output_attentions; leave it out": lambda model, batch: model(
        **batch, output_attentions=True
    ),
    "got a cache that is asked for more than it kept; set num_beams=1": lambda model, batch: generated(
        model, batch, num_beams=2, output_logits=False
    ),
    "no cache, an empty DynamicCache or one of this model .* got StaticCache": lambda model, batch: generated(
        model, row(batch, 0), cache_implementation="static", disable_compile=True
    ),
    "the padded prompt and what follows, got none; hand it on": lambda model, batch: model(
        input_ids=torch.ones(3, 1, dtype=torch.long), **{CACHE: model(**batch)[CACHE]}
    ),
    "the 3 rows that its cache holds, got 1; start without": lambda model, batch: model(
        input_ids=torch.ones(1, 1, dtype=torch.long), **{CACHE: model(**batch)[CACHE]}
    ),
    "the padding of the prompt, got another; hand its mask on": lambda model, batch: model(
        input_ids=torch.ones(3, 1, dtype=torch.long),
        attention_mask=torch.ones(3, 42),
        **{CACHE: model(**batch)[CACHE]},
    ),
    "a model in eval mode, got one in train mode": lambda model, batch: model.train()(**batch),
}  # fmt: skip


@pytest.mark.parametrize("said", REFUSED)
def test_what_a_forward_cannot_do_is_refused_in_one_line(said):
    model = make_model()
    with attach(model, "snapkv", tokens=8), pytest.raises(ConfigError, match=f"^attach: .*{said}") as error:
        REFUSED[said](model, make_batch())
    assert "\n" not in str(error.value)


def test_a_cache_is_read_while_the_method_is_attached():
    model, batch = make_model(), make_batch((30,))
    with attach(model):
        cache = model(**batch)[CACHE]
    with pytest.raises(ConfigError, match=r"attach: a cache of snapkv .* got another forward; start without a cache"):
        model(input_ids=torch.ones(1, 1, dtype=torch.long), **{CACHE: cache})


@pytest.mark.parametrize(
    ("said", "arguments"),
    [
        (r"attach: method: one of snapkv, .*recent_only, got parallel_comp; name one", {"method": "parallel_comp"}),
        (r"attach: method: one of snapkv, .*recent_only, got full; name one", {"method": "full"}),
        (r'unknown method "snapvk"; did you mean "snapkv"\?', {"method": "snapvk"}),
        # uncomp, which is nearer, lacks a table of the model
        (r'unknown method "nope"; known: adakv, .*', {"method": "nope"}),
        ("attach: snapkv", {"windows": 3}),
        ("attach: compress: nothing", {"compress": "context"}),
    ],
)
def test_what_cannot_be_attached_is_refused(said, arguments):
    model = make_model()
    with pytest.raises(ConfigError, match=said):
        attach(model, **arguments)
    assert "forward" not in vars(model)


def test_models_that_cannot_take_a_method_are_refused():
    with pytest.raises(ConfigError, match=r"attach: model: a Hugging Face \*ForCausalLM, got Linear"):
        attach(torch.nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="attach: a model in eval mode"):
        attach(make_model().train())
    windowed = make_model("qwen2")
    windowed.config.layer_types = ["sliding_attention"] * 2
    with pytest.raises(ConfigError, match="layers without full attention"):
        attach(windowed)
    model = make_model()
    with attach(model, "h2o"), pytest.raises(ConfigError, match="got one with h2o attached; detach it"):
        attach(model)


def test_what_there_are_no_kernels_for_is_refused_before_a_forward():
    model = make_runner(head_dim=80).model
    with pytest.raises(
        BackendUnavailable, match=r'^attach: cpu attention needs .*got 80; backend="reference" takes any$'
    ):
        attach(model, tokens=8)
    with attach(model, tokens=8, backend="reference"):
        assert model(**make_batch()).logits.isfinite().all()


def test_float16_has_kernels_on_a_cpu():
    model = make_runner(dtype=torch.float16).model
    with attach(model, tokens=8, backend="cpu"):
        assert model(**make_batch()).logits.isfinite().all()


def test_a_share_is_of_prompts_of_one_length():
    model = make_model()
    with attach(model, "snapkv", share=0.5) as handle:
        model(**make_batch((40, 40)))
        assert handle.report().tokens == [[[20, 20]] * 2] * 2
        with pytest.raises(ConfigError, match="attach: share: prompts of one length, got 23 to 41 tokens; give tokens"):
            model(**make_batch())
