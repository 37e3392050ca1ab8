"""Names of models → loaders: the packaged model, seeded random weights, Hugging Face ids or paths."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from pcbench.errors import DataMissing, unknown_name
from pcbench.models import smollm2
from pcbench.models.placement import spread
from pcbench.models.runner import HFRunner
from pcbench.models.support import check_supported, read_spec
from pcbench.models.tokens import ByteTokenizer, HFTokenizer
from pcbench.reference.settle import settle
from pcbench.registry import model_tables
from pcbench.types import ModelSpec, Ops, Tokenizer

__all__ = ["load_runner", "model_spec"]

# what reading a model raises when its files are absent, cut off or something else
UNREADABLE = (OSError, ValueError, LookupError, AttributeError, SafetensorError, StrictDataclassError)


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


def load_runner(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    ops: Ops,
    *,
    device_map: str | dict[str, Any] | None = None,
) -> HFRunner:
    """A model ready to run on a device, held once against its own stock forward.

    Args:
        name: a name of `pcbench list models`, or a Hugging Face id or path (safetensors, no remote code).
        device: where the weights go.
        dtype: of weights and activations.
        ops: the backend of its plans.
        device_map: "auto" spreads the weights over the GPUs, a table of accelerate's over what it names; None
            puts all on `device`.

    Raises:
        ConfigError: an unknown `random:` name, an architecture that is not supported, or no place for its parts.
        DataMissing: the model is not on this machine, or not whole; the message says how to get it.
    """
    settle()
    logging.disable_progress_bar()
    spec = model_spec(name)
    first = device if device_map is None else torch.device("cpu")
    if name.startswith("random:"):
        model, tokenizer = _random_model(name, first, dtype), ByteTokenizer()
    else:
        model, tokenizer = _stored_model(name, first, dtype)
    if device_map is not None:
        model = spread(model, device_map, dtype)
    model.eval().requires_grad_(False)
    parameters = sum(p.numel() for p in model.parameters())
    ends = end_ids(spec.eos_ids, model.generation_config.eos_token_id, tokenizer.end_id)
    runner = HFRunner(model, replace(spec, parameters=parameters, eos_ids=ends), tokenizer, ops)
    runner.verify()
    return runner


def end_ids(*named: int | Iterable[int] | None) -> tuple[int, ...]:
    """Every id that ends an answer: config, generation config and tokenizer may each name others."""
    ids = [i for one in named if one is not None for i in ((one,) if isinstance(one, int) else one)]
    return tuple(dict.fromkeys(ids))


def _config(name: str) -> Any:
    if name == smollm2.NAME:
        return smollm2.config()
    if name.startswith("random:"):
        return _random_config(name)
    try:
        return AutoConfig.from_pretrained(name)
    except UNREADABLE as error:
        raise _missing(name, error) from error


def _random_config(name: str) -> Any:
    if name not in model_tables():
        raise unknown_name("--model", "model", name, model_tables())
    table = model_tables()[name]
    return AutoConfig.for_model(
        table["family"],
        num_hidden_layers=table["layers"],
        hidden_size=table["hidden"],
        num_attention_heads=table["heads"],
        num_key_value_heads=table["kv_heads"],
        head_dim=table["head_dim"],
        intermediate_size=table["mlp"],
        vocab_size=table["vocab"],
        max_position_embeddings=table["positions"],
        rope_parameters={"rope_type": "default", "rope_theta": table["rope_base"]},
        sliding_window=None,
        use_sliding_window=False,
        tie_word_embeddings=table["family"] == "gemma",
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
        model, found = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            use_safetensors=True,
            attn_implementation="sdpa",
            output_loading_info=True,
            # to be refused below with the missing ones
            ignore_mismatched_sizes=True,
        )
    except UNREADABLE as error:
        raise _missing(name, error) from error
    # transformers draws random ones in their place
    absent = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    if absent:
        raise DataMissing(
            f"--model: weights of every part of {name}, got none that fit {absent[0]}"
            f"{f' and {len(absent) - 1} more' if absent[1:] else ''}; get its files again"
        )
    return model.to(device), tokenizer


def _missing(name: str, error: Exception) -> DataMissing:
    kind = (
        "a folder with config.json and safetensors"
        if Path(name).exists()
        else "a known name, a Hugging Face id or a path"
    )
    first = str(error).strip().partition("\n")[0]
    if not isinstance(error, OSError | ValueError):
        first = f"{type(error).__name__}: {first}"
    return DataMissing(f"--model: {kind}, got {name}: {first}; see `pcbench list models`")
