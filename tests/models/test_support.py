import pytest
import torch
from tiny import make_runner
from transformers import AutoConfig, AutoModelForCausalLM

from pcbench.errors import ConfigError
from pcbench.models.support import check_supported, read_spec
from pcbench.types import causal_flops

SMALL = dict(num_hidden_layers=2, hidden_size=64, num_attention_heads=4, num_key_value_heads=2, vocab_size=50)

# of a family that has no defaults for them in every version of transformers
PARTS = {
    part: {"model_type": family}
    for part, family in (("text_encoder", "t5"), ("audio_encoder", "encodec"), ("decoder", "musicgen_decoder"))
}
# families whose configs name their sizes otherwise
WITH_OTHER_SIZES = ("bert", "gemma3", "gpt2", "llama4", "mistral3", "musicgen", "qwen2_vl", "t5")


@pytest.mark.parametrize(
    ("family", "settings", "reason"),
    [
        ("gemma2", {}, "logit soft-capping (attn_logit_softcapping)"),
        ("gemma2", {}, "layers without full attention (sliding_attention)"),
        ("mistral", {"sliding_window": 32}, "layers without full attention (sliding_window)"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, "sliding_attention"),
        ("deepseek_v3", {}, "latent attention (kv_lora_rank)"),
        ("gpt2", {}, "no rotary position embedding in its config (rope_parameters)"),
        ("bert", {}, "no causal attention in its config (is_decoder)"),
        ("llama", {"is_causal": False}, "no causal attention in its config (is_causal)"),
        ("gemma3", {}, "several parts (text_config, vision_config)"),
        ("mistral3", {}, "several parts (text_config, vision_config)"),
        ("qwen2_vl", {}, "several parts (text_config, vision_config)"),
        ("llama4", {}, "several parts (text_config, vision_config)"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "dynamic rotary"),
        ("t5", {}, "an encoder"),
        ("musicgen", PARTS, "several parts (audio_encoder, decoder, text_encoder)"),
        (
            "gemma3_text",
            {"rope_parameters": {"full_attention": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}},
            "dynamic rotary scaling",
        ),
    ],
)
def test_models_that_would_be_computed_wrongly_are_refused_by_name(family, settings, reason):
    config = AutoConfig.for_model(family, **(settings if family in WITH_OTHER_SIZES else SMALL | settings))
    with pytest.raises(ConfigError) as caught:
        check_supported("some/model", config)
    assert f"got some/model ({family})" in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "gemma", "phi3", "olmo2"])
def test_plain_rope_decoders_are_supported(family):
    check_supported(family, AutoConfig.for_model(family, **SMALL, sliding_window=None))


@pytest.mark.parametrize("family", ["granite", "cohere", "phi", "stablelm", "gpt_neox"])
def test_scaled_scores_and_logits_biased_heads_and_partial_rotation_are_supported(family):
    check_supported(family, AutoConfig.for_model(family, **SMALL))


def test_read_spec_reads_the_model():
    spec = make_runner("qwen2", trained_tokens=128).spec
    assert (spec.layers, spec.heads, spec.kv_heads, spec.head_dim) == (2, 4, 2, 64)
    assert (spec.hidden, spec.vocab, spec.trained_tokens) == (96, 300, 128)
    assert (spec.scale, spec.logit_scale) == (1 / 8, 1)


def spec_of(family, **settings):
    with torch.device("meta"):
        return read_spec("m", AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SMALL, **settings)))


def test_read_spec_counts_parameters():
    assert spec_of("llama", intermediate_size=8, tie_word_embeddings=True).parameters == 50 * 64 + 2 * (
        2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 8 + 2 * 64
    ) + 64  # fmt: skip


@pytest.mark.parametrize(("tied", "matrices"), [(True, 1), (False, 2)])
def test_read_spec_counts_embedding_and_head_apart_from_the_layers(tied, matrices):
    spec = spec_of("llama", intermediate_size=8, tie_word_embeddings=tied)
    assert spec.outer_parameters == matrices * 50 * 64
    layers = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 8 + 2 * 64) + 64
    # 2 a parameter of the layers and token, one row of the head, 4·H·D a pair
    assert causal_flops(spec, 7) == 2 * layers * 7 + 2 * 64 * 50 + 2 * spec.layers * 4 * 16 * 7**2


@pytest.mark.parametrize(
    ("family", "settings", "scale", "logit_scale"),
    [
        ("granite", {"attention_multiplier": 0.3, "logits_scaling": 8.0}, 0.3, 1 / 8),
        ("cohere", {"logit_scale": 0.06}, 1 / 4, 0.06),
        ("llama", {}, 1 / 4, 1.0),
    ],
)
def test_scales_of_scores_and_logits_are_the_models_own(family, settings, scale, logit_scale):
    spec = spec_of(family, **settings)
    assert (spec.scale, spec.logit_scale) == (scale, logit_scale)


def test_read_spec_takes_one_or_many_ends():
    assert spec_of("llama", eos_token_id=[3, 4]).eos_ids == (3, 4)
    assert spec_of("llama", eos_token_id=3).eos_ids == (3,)


def test_kv_bytes_is_the_formula():
    assert spec_of("llama").kv_bytes(10, 2) == 2 * 2 * 2 * 16 * 10 * 2
