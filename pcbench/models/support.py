"""Which models can be run by chunks: a model is refused by name rather than computed wrongly."""

from collections.abc import Iterator
from typing import Any

from pcbench.errors import ConfigError
from pcbench.types import ModelSpec

__all__ = ["check_supported", "read_spec"]

# rotary embeddings whose frequencies do not depend on the length of the sequence
STATIC_ROPE = ("default", "linear", "yarn", "llama3", "proportional")


def read_spec(name: str, config: Any, parameters: int) -> ModelSpec:
    """The numbers methods need, from a Hugging Face config."""
    heads = config.num_attention_heads
    eos = config.eos_token_id
    return ModelSpec(
        name=name,
        layers=config.num_hidden_layers,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        hidden=config.hidden_size,
        vocab=config.vocab_size,
        parameters=parameters,
        trained_tokens=config.max_position_embeddings,
        eos_ids=tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,),
        bos_id=config.bos_token_id,
        trained=not name.startswith("random:"),
    )


def check_supported(name: str, config: Any) -> None:
    """Refuses a config whose attention or logits are more than softmax(q·kᵀ/√D)·v with rotary keys.

    Raises:
        ConfigError: names the model and every reason.
    """
    reasons = list(_reasons(config))
    if reasons:
        raise ConfigError(
            f"--model: a RoPE decoder with plain softmax attention in every layer, got {name} ({config.model_type}) "
            f"with {', '.join(reasons)}; choose another model"
        )


def _reasons(config: Any) -> Iterator[str]:
    def value(field: str) -> Any:
        return getattr(config, field, None)

    if config.is_encoder_decoder:
        yield "an encoder"
    rope = value("rope_parameters") or {}
    if not rope:
        yield "no rotary position embedding"
    elif rope.get("rope_type", "default") not in STATIC_ROPE:
        yield f"{rope.get('rope_type')} rotary scaling, which depends on the length"
    for field in ("attn_logit_softcapping", "final_logit_softcapping"):
        if value(field):
            yield f"logit soft-capping ({field})"
    layer_types = set(value("layer_types") or ())
    windowed = value("sliding_window") and value("use_sliding_window") is not False
    if layer_types - {"full_attention"} or (windowed and not layer_types):
        other = sorted(layer_types - {"full_attention"}) or ["sliding_window"]
        yield f"layers without full attention ({', '.join(other)})"
    if value("kv_lora_rank"):
        yield "latent attention (kv_lora_rank)"
    if value("attention_chunk_size"):
        yield "chunked attention (attention_chunk_size)"
    for field in ("logit_scale", "logits_scaling"):
        if value(field) not in (None, 1, 1.0):
            yield f"scaled logits ({field})"
