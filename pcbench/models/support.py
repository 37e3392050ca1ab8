"""Which models can be run by chunks: a model is refused by name rather than computed wrongly."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from pcbench.errors import ConfigError
from pcbench.models.interface import Seen
from pcbench.types import ModelSpec

__all__ = ["beyond_a_plan", "check_one_dtype", "check_supported", "read_spec", "refusal"]

# rotary embeddings whose frequencies do not depend on the length of the sequence
STATIC_ROPE = ("default", "linear", "yarn", "llama3", "proportional")

# what an attention layer may hand to its kernel that no plan takes into account
OPTIONS = {
    "sliding_window": "sliding windows",
    "softcap": "soft-capped attention scores",
    "s_aux": "attention sinks",
    "sinks": "attention sinks",
    "position_bias": "biased attention scores",
    "indices": "sparse attention",
    "block_indices": "sparse attention",
}


def read_spec(name: str, model: Any) -> ModelSpec:
    """The numbers methods need, from a Hugging Face model; its weights may be on the meta device."""
    config = model.config
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
        parameters=sum(p.numel() for p in model.parameters()),
        outer_parameters=_outer_parameters(model),
        trained_tokens=config.max_position_embeddings,
        eos_ids=tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,),
        trained=not name.startswith("random:"),
        score_scale=_score_scale(model),
        logit_scale=_logit_scale(config),
        config_sha256=_digest(config, heads),
        dual_chunk=_dual_chunk(name, config),
    )


def _outer_parameters(model: Any) -> int:
    """Numbers in embedding and head; a matrix that is both counts once."""
    parts = (model.get_input_embeddings(), model.get_output_embeddings())
    return sum({id(p): p.numel() for part in parts if part is not None for p in part.parameters()}.values())


# of a config, what its heads' queries and keys hang on; defaults that versions of transformers add are not among it
NUMBERS = ("model_type", "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")


def _digest(config: Any, heads: int) -> str:
    numbers = {name: getattr(config, name, None) for name in NUMBERS}
    numbers["kv_heads"] = getattr(config, "num_key_value_heads", None) or heads
    numbers["head_dim"] = getattr(config, "head_dim", None) or config.hidden_size // heads
    numbers["rope"] = getattr(config, "rope_parameters", None)
    return hashlib.sha256(json.dumps(numbers, sort_keys=True, default=str).encode()).hexdigest()


# of `dual_chunk_attention_config`, with what a config that lacks them means
DUAL_CHUNK = {"chunk_size": 8192, "local_size": 1024, "original_max_position_embeddings": 0}


def _dual_chunk(name: str, config: Any) -> tuple[int, int, int] | None:
    table = getattr(config, "dual_chunk_attention_config", None)
    if table is None:
        return None
    values = [table.get(key, absent) for key, absent in DUAL_CHUNK.items()] if isinstance(table, dict) else []
    if not values or not all(type(value) is int for value in values):
        raise ConfigError(
            f"--model: {name}: a dual_chunk_attention_config of whole numbers ({', '.join(DUAL_CHUNK)}), got {table}; "
            "mend its config"
        )
    chunk, local, original = values
    return chunk, local, original


def _score_scale(model: Any) -> float | None:
    """The one that every attention layer names; None where they name none, or several."""
    attention = [m for m in model.modules() if isinstance(getattr(m, "layer_idx", None), int)]
    scales = {getattr(m, "scaling", None) for m in attention} - {None}
    return float(scales.pop()) if len(scales) == 1 else None


def _logit_scale(config: Any) -> float:
    """Of what the head gives, by the two names that configs have for it."""
    return (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)


def check_supported(name: str, config: Any, ropes: Sequence[str] = STATIC_ROPE) -> None:
    """Refuses a config whose attention or logits are more than softmax(q·kᵀ/√D)·v with rotary keys.

    Args:
        name: of the model.
        config: its own.
        ropes: rotary embeddings that are taken.

    Raises:
        ConfigError: names the model and every reason.
    """
    reasons = list(_reasons(config, ropes))
    if reasons:
        raise refusal(name, config, reasons)


def refusal(name: str, config: Any, reasons: Sequence[str]) -> ConfigError:
    """What is said of a model that a plan would compute wrongly."""
    return ConfigError(
        f"--model: a RoPE decoder with plain softmax attention in every layer, got {name} ({config.model_type}) "
        f"with {', '.join(reasons)}; choose another model"
    )


def beyond_a_plan(seen: Seen, spec: ModelSpec) -> Iterator[str]:
    """What an attention layer asks for that is more than softmax(scale·q·kᵀ)·v, causal, over all keys."""
    for option, reason in OPTIONS.items():
        if seen.options.get(option) is not None:
            yield f"{reason} ({option})"
    if seen.options.get("is_causal") is False or getattr(seen.module, "is_causal", True) is False:
        yield "attention that is not causal (is_causal)"
    if seen.mask is not None:
        yield "an attention mask of its own"
    scale = seen.options.get("scaling")
    if scale is not None and not math.isclose(float(scale), spec.scale, rel_tol=1e-6):
        yield f"attention scores scaled by {float(scale):g} where a plan scales by {spec.scale:g}"
    shapes = [(x.shape[1], x.shape[3]) for x in (seen.q, seen.k, seen.v)]
    ours = [(spec.heads, spec.head_dim), *[(spec.kv_heads, spec.head_dim)] * 2]
    if shapes != ours:
        yield f"heads × sizes of q, k and v of {_pairs(shapes)} where its config says {_pairs(ours)}"


def check_one_dtype(name: str, model: Any) -> None:
    """Refuses a model whose head is of another dtype than what it reads: nobody could multiply them.

    Raises:
        ConfigError: names both dtypes.
    """
    head = model.get_output_embeddings()
    read, written = model.get_input_embeddings().weight.dtype, None if head is None else head.weight.dtype
    if written not in (None, read):
        raise ConfigError(
            f"--model: {name}: weights of one dtype, got embeddings in {read} and a head in {written}; "
            f"call model.to({read})"
        )


def _pairs(shapes: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{heads}×{size}" for heads, size in shapes)


def _reasons(config: Any, ropes: Sequence[str]) -> Iterator[str]:
    def value(field: str) -> Any:
        return getattr(config, field, None)

    if getattr(config, "is_heterogeneous", False):
        yield "layers of different sizes (per_layer_config)"
        return
    if _has_parts(config):
        yield f"several parts ({', '.join(sorted(config.sub_configs))})"
        return
    if config.is_encoder_decoder:
        yield "an encoder"
    rope = value("rope_parameters") or {}
    # decoders with rotary embeddings, and beside an encoder, leave is_decoder at false
    for field in ("is_causal",) if rope or config.is_encoder_decoder else ("is_causal", "is_decoder"):
        if value(field) is False:
            yield f"no causal attention in its config ({field})"
    if not rope:
        yield "no rotary position embedding in its config (rope_parameters)"
    # of the whole model, or by kind of layer
    for one in {id(x): x for x in rope.values() if isinstance(x, dict)}.values() or [rope]:
        if one.get("rope_type", "default") not in ropes:
            yield f"{one['rope_type']} rotary scaling, which depends on the length"
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


def _has_parts(config: Any) -> bool:
    try:
        return config.get_text_config() is not config
    except ValueError:
        # several of its parts could be the text's
        return True
