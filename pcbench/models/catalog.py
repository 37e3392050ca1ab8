"""Names of models → loaders: the packaged model, seeded random weights, Hugging Face ids or folders."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any

import torch
from pydantic import Field
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from pcbench.config import Table, validate
from pcbench.errors import ConfigError, DataMissing, PcbenchError
from pcbench.models import smollm2
from pcbench.models.folder import AGAIN, MOST_LAYERS, ModelFiles, absent_weights
from pcbench.models.known import numbers, stored_at
from pcbench.models.layers.quantize import by_library, described, quantised
from pcbench.models.placement import spread
from pcbench.models.quiet import quietly, said
from pcbench.models.runner import HFRunner
from pcbench.models.support import check_supported, read_spec
from pcbench.models.tokens import ByteTokenizer, HFTokenizer
from pcbench.ops.no_memory import is_out_of_memory
from pcbench.reference.settle import settle
from pcbench.registry import model_tables
from pcbench.types import ModelSpec, Ops, Tokenizer

__all__ = ["load_runner", "load_tokenizer", "model_spec"]


class Sizes(Table):
    """What a config must say in numbers that a machine can hold."""

    num_hidden_layers: Annotated[int, Field(ge=1, le=MOST_LAYERS)]
    hidden_size: Annotated[int, Field(ge=1, le=1 << 20)]
    num_attention_heads: Annotated[int, Field(ge=1, le=1 << 16)]
    num_key_value_heads: Annotated[int, Field(ge=1, le=1 << 16)] | None
    head_dim: Annotated[int, Field(ge=1, le=1 << 16)] | None
    vocab_size: Annotated[int, Field(ge=1, le=1 << 24)]
    max_position_embeddings: Annotated[int, Field(ge=1, le=1 << 40)]


def model_spec(name: str) -> ModelSpec:
    """A model's numbers without its weights.

    Raises:
        ConfigError: an unknown `random:` name, an architecture that is not supported, or files that are not what
            they should be.
        DataMissing: the model is not on this machine.
    """
    config = _config(name)
    skeleton = _skeleton(name, config)
    spec = replace(read_spec(name, skeleton), weights=model_tables().get(name, {}).get("weights"))
    is_stored = name != smollm2.NAME and not name.startswith("random:")
    if is_stored and (files := ModelFiles(stored_at(name))).is_local:
        files.check_tokenizer()
        _check_weights(files, skeleton, spec)
    return spec


def load_runner(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    ops: Ops,
    *,
    device_map: str | dict[str, Any] | None = None,
    quantize: str | None = None,
) -> HFRunner:
    """A model ready to run on a device, held once against its own stock forward.

    Args:
        name: a name of `pcbench list models`, or a Hugging Face id or path (safetensors, no remote code).
        device: where the weights go.
        dtype: of weights and activations.
        ops: the backend of its plans.
        device_map: "auto" spreads the weights over the GPUs, a table of accelerate's over what it names; None
            puts all on `device`.
        quantize: a scheme of `models.layers.quantize` for the weights of linear layers; None leaves them as they are.

    Raises:
        ConfigError: an unknown `random:` name, an architecture that is not supported, no place for its parts, or
            weights that cannot be quantised so here.
        DataMissing: the model is not on this machine, or not whole; the message says how to get it.
    """
    settle()
    spec = model_spec(name)
    if quantize is not None and device_map is not None:
        raise ConfigError(f"--quantize: a model on one device, got device_map {device_map}; leave one of them out")
    first = device if device_map is None else torch.device("cpu")
    how = {} if quantize is None else quantised(quantize, device, dtype)
    with by_library(quantize, name, device):
        if name.startswith("random:"):
            model, tokenizer = _random_model(name, first, dtype, how), ByteTokenizer()
            # what is attached to it finds its files, as tables, by this name
            model.config._name_or_path = name
        else:
            model, tokenizer = _stored_model(name, first, dtype, how)
    if device_map is not None:
        model = spread(model, device_map, dtype)
    model.eval().requires_grad_(False)
    # weights of 4 bits are numbers of 8, two in each
    parameters = spec.parameters if quantize else sum(p.numel() for p in model.parameters())
    # a model that was stored without one generates as its config says
    generation = model.generation_config
    ends = end_ids(spec.eos_ids, generation and generation.eos_token_id, tokenizer.end_id)
    runner = HFRunner(model, replace(spec, parameters=parameters, eos_ids=ends), tokenizer, ops)
    with quietly(), by_library(quantize, name, device):
        runner.verify()
    # float32 copies that the check made are no memory of a run
    torch.cuda.empty_cache()
    return runner if quantize is None else replace(runner, quantization=described(quantize, model, name))


def load_tokenizer(name: str) -> Tokenizer:
    """A model's tokenizer, without its weights.

    Raises:
        ConfigError: it is not what it should be; DataMissing: the model is not on this machine.
    """
    if name.startswith("random:"):
        return ByteTokenizer()
    return _tokenizer(name, _place(name))


def _tokenizer(name: str, path: str) -> Tokenizer:
    ModelFiles(path).check_tokenizer()
    with _reading(name, "a tokenizer"):
        return HFTokenizer(AutoTokenizer.from_pretrained(path, trust_remote_code=False))


def _place(name: str) -> str:
    """Where the files of a stored model are: a folder, or a Hugging Face id."""
    with _reading(name, "weights"):
        return str(smollm2.folder()) if name == smollm2.NAME else stored_at(name)


def end_ids(*named: int | Iterable[int] | None) -> tuple[int, ...]:
    """Every id that ends an answer: config, generation config and tokenizer may each name others."""
    ids = [i for one in named if one is not None for i in ((one,) if isinstance(one, int) else one)]
    return tuple(dict.fromkeys(ids))


def _config(name: str) -> Any:
    if name == smollm2.NAME:
        return smollm2.config()
    if name.startswith("random:"):
        return _random_config(name)
    path = stored_at(name)
    ModelFiles(path).config()
    with _reading(name, "config.json"):
        return AutoConfig.from_pretrained(path, trust_remote_code=False)


def _skeleton(name: str, config: Any) -> Any:
    """The model without memory for its weights.

    Raises:
        ConfigError: it is not supported, its numbers are not those of a model, or it cannot be built.
    """
    with _reading(name, "config.json"):
        check_supported(name, config)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ConfigError(
            f"--model: a causal language model, got {name} ({config.model_type}), which generates no text; "
            "choose another model"
        )
    where = f"{name}: config.json"
    sizes = validate(Sizes, {key: getattr(config, key, None) for key in Sizes.model_fields}, where, AGAIN)
    heads, kv_heads = sizes.num_attention_heads, sizes.num_key_value_heads or sizes.num_attention_heads
    if heads % kv_heads:
        raise ConfigError(
            f"{where}: num_attention_heads: a multiple of the {kv_heads} num_key_value_heads, got {heads}; {AGAIN}"
        )
    with _reading(name, "config.json"), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False, attn_implementation="eager")


@contextmanager
def _reading(name: str, what: str) -> Iterator[None]:
    """What another library raises while it reads a part of a model, as one line; nothing else is printed."""
    try:
        with quietly():
            yield
    except PcbenchError:
        raise
    # what stands in the files decides what is raised
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise DataMissing(f"--model: {name}: {what} that transformers can use, got {said(error)}; {AGAIN}") from error


def _random_config(name: str) -> Any:
    table = numbers(name)
    with _reading(name, "numbers"):
        return AutoConfig.for_model(
            table.family,
            num_hidden_layers=table.layers,
            hidden_size=table.hidden,
            num_attention_heads=table.heads,
            num_key_value_heads=table.kv_heads,
            head_dim=table.head_dim,
            intermediate_size=table.mlp,
            vocab_size=table.vocab,
            max_position_embeddings=table.positions,
            rope_parameters={"rope_type": "default", "rope_theta": table.rope_base},
            sliding_window=None,
            use_sliding_window=False,
            tie_word_embeddings=table.family == "gemma",
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )


def _random_model(name: str, device: torch.device, dtype: torch.dtype, how: dict[str, Any]) -> Any:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.device(device):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(_random_config(name), dtype=dtype)
    if not how:
        return model
    with quietly():
        return type(model).from_pretrained(None, config=model.config, state_dict=model.state_dict(), dtype=dtype, **how)


def _stored_model(name: str, device: torch.device, dtype: torch.dtype, how: dict[str, Any]) -> tuple[Any, Tokenizer]:
    path = _place(name)
    tokenizer = _tokenizer(name, path)
    ModelFiles(path).weights()
    # of weights that are quantised meanwhile the library may be what fails
    with quietly() if how else _reading(name, "weights in safetensors"):
        model, found = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
            output_loading_info=True,
            # to be refused below with the missing ones
            ignore_mismatched_sizes=True,
            **how,
        )
    # transformers draws random ones in their place
    absent = {*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])}
    if absent:
        raise absent_weights(name, list(absent))
    return model if how else model.to(device), tokenizer


def _check_weights(files: ModelFiles, skeleton: Any, spec: ModelSpec) -> None:
    wanted = {name: tuple(weight.shape) for name, weight in skeleton.named_parameters()}
    files.check_weights(wanted, spec.parameters)
