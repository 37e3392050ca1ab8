"""Every family of causal language models in transformers, built tiny and judged as pcbench judges a model at loading.

python tools/model_families.py           writes the table of docs/models.md for the installed transformers
python tools/model_families.py llama …   prints what is found of these families
"""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from pcbench import ops
from pcbench.errors import PcbenchError
from pcbench.models.runner import HFRunner
from pcbench.models.support import check_supported, read_spec
from pcbench.models.tokens import ByteTokenizer

__all__ = ["FAMILIES", "PAGE", "Verdict", "build", "judge", "page", "read_page"]

FAMILIES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
PAGE = Path(__file__).resolve().parent.parent / "docs" / "models.md"
PART = re.compile(r"(<!-- families -->\n).*?(<!-- end -->)", re.S)
LAYERS, VOCAB = 2, 160

# names of a config's whole numbers → what they are at most in a tiny model; the first that fits
SIZES = (
    (r"num_hidden_layers|n_layers?|num_layers|num_decoder_layers|(en|de)coder_layers", LAYERS),
    (r".*vocab_size.*", VOCAB),
    (r".*(head_dim|head_size|d_kv|kv_channels|size_per_head|d_head)|rotary_dim", 16),
    (r".*lora_rank", 16),
    (r"(num_key_value|n_kv|num_kv|kv_n|.*_key_value)_heads", 2),
    (r"mamba_.*heads|num_heads", 8),
    (r".*heads|n_head", 4),
    (r"hidden_size|n_embd|d_model|dim|dim_model|embedding_size|word_embed_proj_dim|lru_width|embed_dim", 64),
    (r"hidden_size_per_layer_input|num_kv_shared_layers|first_k_dense_replace|num_dense_layers", 0),
    (r".*(intermediate|ffn|inner|mlp|feed_?forward|dim_ff).*", 96),
    (r"(moe_|n_|num_)?(n_)?(routed_|local_)*experts|moe_num_experts|num_local_routed_experts", 4),
    (r".*(top_?k|experts_per_tok|experts_per_token|moe_k).*", 2),
    (r"n_group|topk_group|num_expert_groups?", 1),
    (r".*(state_size|d_state|ssm_state).*", 8),
    (r"max_position_embeddings|n_positions|n_ctx|max_seq_len|context_length", 512),
)
# lengths that a short prompt does not reach: windows, blocks, keys that an indexer picks
LENGTHS = re.compile(r".*(window|block|chunk|index.*topk|local).*")


@dataclass(frozen=True)
class Verdict:
    """What comes of a family.

    Args:
        family: its model_type.
        state: right, refused or not built.
        why: of right ones what must be so, empty for its default config; else the reason.
        model: of right ones, as it was judged.
        config: how its config is made again.
    """

    family: str
    state: str
    why: str = ""
    config: Callable[[], Any] | None = None


class NotBuilt(Exception):
    """A family's tiny model cannot be made or cannot run by its own code."""


def judge(family: str) -> Verdict:
    """Its default config made tiny; where that is refused, the same with full attention in every layer.

    Raises:
        Exception: what pcbench raises that is no refusal; a fault.
    """
    first = None
    for condition, make in (("", tiny), ("with full attention in every layer", plain)):
        found = _judge_config(family, condition, lambda make=make: make(family))
        if found.state == "right":
            return found
        first = first or found
    return first


def _judge_config(family: str, condition: str, make: Callable[[], Any]) -> Verdict:
    try:
        config = make()
    # what a family's own config or code raises is the reason why it is not built
    except Exception as error:
        return Verdict(family, "not built", _said(error))
    try:
        check_supported(family, config)
        model = build(make)
        runner = HFRunner(model, read_spec(family, model), ByteTokenizer(), ops.backend("reference"))
        runner.verify()
    except NotBuilt as error:
        return Verdict(family, "not built", str(error))
    except PcbenchError as error:
        return Verdict(family, "refused", _reason(error))
    return Verdict(family, "right", condition, make)


def tiny(family: str) -> Any:
    """A family's default config in small numbers, with the kinds of layers that it has."""
    config = AutoConfig.for_model(family)
    for one in _configs(config):
        _shrink(one)
    return config


def plain(family: str) -> Any:
    """The same without windows, chunks and soft caps."""
    config = tiny(family)
    for one in _configs(config):
        by_layer = bool(getattr(one, "layer_types", None))
        if by_layer:
            one.layer_types = ["full_attention"] * LAYERS
        # where the kinds of layers say who has a window, its length must stay
        windows = () if by_layer else ("sliding_window",)
        for name in (*windows, "attention_chunk_size", "attn_logit_softcapping", "final_logit_softcapping"):
            if getattr(one, name, None) is not None:
                setattr(one, name, None)
        if isinstance(getattr(one, "use_sliding_window", None), bool):
            one.use_sliding_window = False
    return config


def with_short_lengths(make: Callable[[], Any]) -> Any:
    """The config with every window, block and choice of keys so short that a few tokens show it."""
    config = make()
    for one in _configs(config):
        for name, value in _numbers(one):
            if LENGTHS.fullmatch(name) and value > 4:
                setattr(one, name, 4)
    return config


def build(make: Callable[[], Any], seed: int = 1) -> Any:
    """A model with random weights of natural size, biases that are not 0 and norms that are not 1.

    Raises:
        NotBuilt: its own code fails, or it is no tiny model.
    """
    try:
        with torch.device("meta"):
            size = sum(p.numel() for p in AutoModelForCausalLM.from_config(make()).parameters())
        if size > 20e6:
            raise NotBuilt(f"{size / 1e6:.0f} million parameters in the smallest config that was found")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(make(), dtype=torch.float32).eval().requires_grad_(False)
            _disturb(model)
        model(input_ids=torch.arange(4, 12)[None], use_cache=False)
    except NotBuilt:
        raise
    except Exception as error:
        raise NotBuilt(_said(error)) from error
    return model


@torch.no_grad()
def _disturb(model: Any) -> None:
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            weight.normal_(std=1 if "embed" in name else 1.2 * weight.shape[-1] ** -0.5)
        elif name.endswith("weight"):
            weight += torch.empty_like(weight).normal_(std=0.3)
        else:
            weight.normal_(std=0.3)


def _configs(config: Any) -> Iterator[Any]:
    yield config
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig):
            yield from _configs(value)


def _numbers(config: Any) -> list[tuple[str, int]]:
    return [(name, x) for name, x in vars(config).items() if type(x) is int and not name.startswith("_")]


def _shrink(config: Any) -> None:
    layers = next((n for name, n in _numbers(config) if re.fullmatch(SIZES[0][0], name)), None)
    for name, value in _numbers(config):
        most = next((most for pattern, most in SIZES if re.fullmatch(pattern, name)), None)
        if most is not None and value > most:
            setattr(config, name, most)
        elif re.search("token_id|token_index", name) and value >= VOCAB:
            setattr(config, name, 3)
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == layers and layers > LAYERS:
            setattr(config, name, _of_two_kinds(value))
    _fill(config)


def _of_two_kinds(values: list[Any]) -> list[Any]:
    """The first of a list by layers and the first that differs from it."""
    other = next((x for x in values if x != values[0]), values[0])
    return [values[0], other]


def _fill(config: Any) -> None:
    """What a family leaves to each of its models."""
    own = vars(config)
    if "head_dim" in own and own["head_dim"] is None:
        config.head_dim = 16
    if "num_key_value_heads" in own and own["num_key_value_heads"] is None:
        config.num_key_value_heads = config.num_attention_heads
    if "layer_types" in own and own["layer_types"] is None:
        config.layer_types = ["full_attention"] * LAYERS
    for name in ("n_routed_experts", "n_shared_experts", "num_experts_per_tok"):
        if name in own and own[name] is None:
            setattr(config, name, 2)
    if own.get("rope_parameters") == {}:
        config.rope_parameters = {"rope_type": "default", "rope_theta": 1e4}


def _reason(error: Exception) -> str:
    """Of a refusal, what the model has or what came out."""
    said = str(error).rpartition(";")[0]
    return said.partition(") with ")[2] or said.partition(": ")[2].partition(": ")[2]


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:160]


def table(verdicts: list[Verdict]) -> str:
    """Markdown of the generated part."""
    counts = {state: sum(v.state == state for v in verdicts) for state in ("right", "refused", "not built")}
    lines = [
        f"transformers {transformers.__version__}: of {len(verdicts)} families of causal language models "
        f"{counts['right']} are right, {counts['refused']} are refused by name, {counts['not built']} were not built "
        "tiny.",
        "",
        "| family | result | when, or why not |",
        "|---|---|---|",
        *(f"| {v.family} | {v.state} | {v.why.replace('|', '/')} |" for v in verdicts),
    ]
    return "\n".join(lines) + "\n"


def page(text: str, verdicts: list[Verdict]) -> str:
    """The page `text` with the table anew."""
    return PART.sub(lambda found: f"{found[1]}\n{table(verdicts)}\n{found[2]}", text)


def read_page(text: str) -> tuple[str, dict[str, tuple[str, str]]]:
    """The version that a page was written for, and family → result and reason."""
    rows = re.findall(r"^\| (\S+) \| (right|refused|not built) \| (.*?) ?\|$", text, re.MULTILINE)
    version = re.search(r"^transformers (\S+):", text, re.MULTILINE)
    return version[1] if version else "", {family: (state, why) for family, state, why in rows}


def main() -> None:
    """Writes the page, or prints the verdicts of the families that were named."""
    transformers.logging.set_verbosity_error()
    verdicts = [judge(family) for family in sys.argv[1:] or FAMILIES]
    if sys.argv[1:]:
        for verdict in verdicts:
            print(verdict.family, verdict.state, verdict.why, sep=": ")
    else:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), verdicts), encoding="utf-8")


if __name__ == "__main__":
    main()
