import pytest
from tiny import make_runner
from transformers import AutoConfig

from pcbench.errors import ConfigError
from pcbench.models.support import check_supported, read_spec

SMALL = dict(num_hidden_layers=2, hidden_size=64, num_attention_heads=4, num_key_value_heads=2, vocab_size=50)


@pytest.mark.parametrize(
    ("family", "settings", "reason"),
    [
        ("gemma2", {}, "logit soft-capping (attn_logit_softcapping)"),
        ("gemma2", {}, "layers without full attention (sliding_attention)"),
        ("mistral", {"sliding_window": 32}, "layers without full attention (sliding_window)"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, "sliding_attention"),
        ("deepseek_v3", {}, "latent attention (kv_lora_rank)"),
        ("gpt2", {}, "no rotary position embedding"),
        ("granite", {"logits_scaling": 8.0}, "scaled logits (logits_scaling)"),
        ("cohere", {"logit_scale": 0.06}, "scaled logits (logit_scale)"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "dynamic rotary"),
        ("t5", {}, "an encoder"),
    ],
)
def test_models_that_would_be_computed_wrongly_are_refused_by_name(family, settings, reason):
    config = AutoConfig.for_model(family, **(SMALL | settings if family not in ("gpt2", "t5") else settings))
    with pytest.raises(ConfigError) as caught:
        check_supported("some/model", config)
    assert f"got some/model ({family})" in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "gemma", "phi3", "olmo2"])
def test_plain_rope_decoders_are_supported(family):
    check_supported(family, AutoConfig.for_model(family, **SMALL, sliding_window=None))


def test_read_spec_reads_the_config():
    spec = read_spec("m", make_runner("qwen2", trained_tokens=128).model.config, 7)
    assert (spec.layers, spec.heads, spec.kv_heads, spec.head_dim) == (2, 4, 2, 64)
    assert (spec.hidden, spec.vocab, spec.trained_tokens, spec.parameters) == (96, 300, 128, 7)


def test_read_spec_takes_one_or_many_ends():
    config = AutoConfig.for_model("llama", **SMALL, eos_token_id=[3, 4])
    assert read_spec("m", config, 0).eos_ids == (3, 4)
    config = AutoConfig.for_model("llama", **SMALL, eos_token_id=3)
    assert read_spec("m", config, 0).eos_ids == (3,)


def test_kv_bytes_is_the_formula():
    spec = read_spec("m", AutoConfig.for_model("llama", **SMALL), 0)
    assert spec.kv_bytes(10, 2) == 2 * 2 * 2 * 16 * 10 * 2
