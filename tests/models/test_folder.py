import json
import os
import random
import string

import pytest
import torch
from safetensors.torch import save_file
from stored_model import change_json, change_weights, load

from pcbench.errors import ConfigError, DataMissing, PcbenchError
from pcbench.models import model_spec
from pcbench.models.folder import MOST_LAYERS, ModelFiles

CODE = "open({marker!r}, 'w').close()\nraise ImportError('this was run')\n"
JSON_FILES = ("config.json", "generation_config.json", "tokenizer_config.json", "added_tokens.json")
FILES = (*JSON_FILES, "tokenizer.json", "chat_template.jinja", "model.safetensors")
NO_JSON = {
    "empty": b"",
    "open": b"{",
    "list": b"[]",
    "null": b"null",
    "deep lists": b"[" * 100_000,
    "deep tables": b'{"model_type":' * 100_000,
    "digits": b'{"model_type": "llama", "num_hidden_layers": ' + b"9" * 5000 + b"}",
    "half a letter": b'{"model_type": "\\ud800"}',
    "latin-1": b'{"model_type": "ll\xe4ma"}',
    "utf-16": '{"model_type": "llama"}'.encode("utf-16"),
    "zeros": b"\0" * 100,
}


def refused(folder, capfd):
    """The one line that planning and loading end with; nothing stands beside it."""
    capfd.readouterr()
    with pytest.raises(PcbenchError) as found:
        load(folder)
    assert "\n" not in str(found.value)
    assert capfd.readouterr() == ("", "")
    return str(found.value)


@pytest.fixture
def answers_yes(monkeypatch):
    """Whoever asks whether foreign code may run is told so."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_a_model_is_never_run(file, known, stored, tmp_path, capfd, answers_yes):
    marker = tmp_path / "ran"
    (stored / "own.py").write_text(CODE.format(marker=str(marker)))
    classes = {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M", "AutoTokenizer": ["own.T", "own.T"]}
    change_json(stored / file, auto_map=classes)
    if known:
        load(stored)
    else:
        change_json(stored / "config.json", model_type="own", auto_map=classes)
        assert "model_type: a kind of model that transformers" in (why := refused(stored, capfd))
        assert "got 'own' and code of its own (auto_map), which is never run; choose another model" in why
    assert not marker.exists()


class Runs:
    """What pickle runs when it is loaded."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("name", ["w.bin", "../model/w.bin", "sub/w.safetensors", "w.pt"])
def test_only_safetensors_are_ever_opened(name, stored, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(torch, "load", None)
    torch.save({"model.norm.weight": torch.ones(96), "x": Runs(tmp_path / "ran")}, stored / "w.bin")
    (stored / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"model.norm.weight": name}}
    (stored / "model.safetensors.index.json").write_text(json.dumps(index))
    assert f"weight_map: files of safetensors in the same folder, got '{name}'" in refused(stored, capfd)
    (stored / "model.safetensors.index.json").unlink()
    (stored / "w.bin").rename(stored / "pytorch_model.bin")
    assert "weights in model.safetensors or model.safetensors.index.json, got none" in refused(stored, capfd)
    assert not (tmp_path / "ran").exists()


def test_a_model_in_shards_is_loaded_and_a_missing_shard_named(stored, capfd):
    whole = load(stored)
    weights = whole.model.state_dict()
    (stored / "model.safetensors").unlink()
    names = sorted(weights)
    for number, part in enumerate((names[:5], names[5:])):
        save_file({name: weights[name] for name in part}, stored / f"part{number}.safetensors", {"format": "pt"})
    places = {name: f"part{int(name not in names[:5])}.safetensors" for name in names}
    (stored / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert torch.equal(load(stored).lm_head(), whole.lm_head())
    (stored / "part1.safetensors").unlink()
    assert "the 2 files that" in (why := refused(stored, capfd))
    assert why.endswith("got no part1.safetensors; get its files again")


@pytest.mark.parametrize(
    ("method", "named"),
    [("awq", "'awq'"), ("gptq", "'gptq'"), ("bitsandbytes", "'bitsandbytes'"), (None, "of an unknown kind")],
)
def test_quantised_models_are_refused_by_their_kind(method, named, stored, capfd):
    change_json(stored / "config.json", quantization_config={"quant_method": method, "bits": 4})
    assert f"with quantization_config ({named}); take the model before" in refused(stored, capfd)


def test_quantised_weights_without_a_word_in_the_config_are_refused(stored, capfd):
    name = "model.layers.0.mlp.up_proj.weight"
    change_weights(stored, lambda weights: weights.update({name: weights[name].to(torch.int8)}))
    assert f"weights in F64, F32, F16, BF16, got {name} in I8" in refused(stored, capfd)


def test_masks_that_are_stored_beside_the_weights_are_no_quantised_ones(stored):
    mask = {"model.layers.0.self_attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool)}
    change_weights(stored, lambda weights: weights.update(mask))
    load(stored)


def test_an_adapter_is_no_model(stored, capfd):
    change_json(stored / "adapter_config.json", base_model_name_or_path="no/such", peft_type="LORA")
    assert "a PEFT adapter (adapter_config.json); merge it into its base model" in refused(stored, capfd)


def test_weights_of_several_dtypes_become_one(stored):
    head = "lm_head.weight"
    change_weights(stored, lambda weights: weights.update({k: w.bfloat16() for k, w in weights.items() if k != head}))
    assert {p.dtype for p in load(stored).model.parameters()} == {torch.float32}


def test_a_model_without_a_tokenizer_says_so(stored, capfd):
    (stored / "tokenizer.json").unlink()
    assert "a tokenizer beside the weights, got none of tokenizer.json, " in refused(stored, capfd)


def test_a_model_without_a_generation_config_ends_as_its_config_says(stored):
    (stored / "generation_config.json").unlink()
    change_json(stored / "config.json", eos_token_id=4)
    assert load(stored).spec.eos_ids == (4,)


@pytest.mark.parametrize("family", ["bert", "vit", "t5"])
def test_what_generates_no_text_is_refused(family, stored, capfd):
    (stored / "config.json").write_text(json.dumps({"model_type": family}))
    assert f"({family}" in refused(stored, capfd)


@pytest.mark.parametrize("content", NO_JSON)
@pytest.mark.parametrize("file", JSON_FILES)
def test_json_that_is_none_is_one_line_that_names_the_file(file, content, stored, capfd):
    (stored / file).write_bytes(NO_JSON[content])
    assert refused(stored, capfd).startswith(f"{stored / file}: ")


@pytest.mark.parametrize("content", NO_JSON)
@pytest.mark.parametrize("file", ["tokenizer.json", "model.safetensors"])
def test_a_tokenizer_and_weights_that_are_none_are_one_line(file, content, stored, capfd):
    (stored / file).write_bytes(NO_JSON[content])
    assert str(stored) in refused(stored, capfd)


@pytest.mark.parametrize("what", ["device", "pipe", "folder", "loop"])
@pytest.mark.parametrize("file", FILES)
def test_what_is_no_plain_file_is_never_opened(file, what, stored, capfd):
    path = stored / file
    path.unlink(missing_ok=True)
    if what in ("device", "loop"):
        path.symlink_to("/dev/zero" if what == "device" else file)
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert refused(stored, capfd).startswith(f"{path}: a ")


@pytest.mark.parametrize("layers", [0, -1, MOST_LAYERS + 1, 10**9, 10**18])
@pytest.mark.parametrize("key", ["num_hidden_layers", "num_layers", "text_config.num_hidden_layers"])
def test_no_number_of_layers_is_built_that_no_model_has(key, layers, stored, capfd):
    first, _, inner = key.partition(".")
    change_json(stored / "config.json", **{first: {inner: layers} if inner else layers})
    if layers > 0:
        assert f"{key}: at most {MOST_LAYERS} layers, got {layers}" in refused(stored, capfd)
    elif key == "num_hidden_layers":
        assert f"num_hidden_layers: input should be greater than or equal to 1, got {layers}" in refused(stored, capfd)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("num_attention_heads", 3, "a multiple of the 2 num_key_value_heads, got 3"),
        ("vocab_size", 10**12, "vocab_size: input should be less than"),
        ("hidden_size", 960_000, "got none that fit lm_head.weight"),
        ("hidden_size", None, "Field 'hidden_size' expected int, got NoneType"),
        ("hidden_act", "no such", "KeyError"),
        ("rope_parameters", [], ""),
        ("max_position_embeddings", 0, "max_position_embeddings: input should be greater"),
        ("eos_token_id", "x", "config.json: eos_token_id"),
        ("model_type", 7, "model_type: input should be a valid string, got 7"),
        ("transformers_weights", "other.bin", "got transformers_weights"),
        ("is_causal", 7, "'is_causal' must be bool"),
    ],
)
def test_values_that_make_no_model_are_one_line(key, value, why, stored, capfd):
    change_json(stored / "config.json", **{key: value})
    assert why in refused(stored, capfd)


def outcome(folder):
    """Nothing where the model is loaded, else the error."""
    try:
        load(folder)
    except PcbenchError as error:
        return str(error)
    return ""


def bad_values(table, seed):
    """The same table with one value that is something else."""
    draw = random.Random(seed)
    key = draw.choice(sorted(table))
    values = [None, 0, -1, 1e9, 10**9, 10**18, "x" * 99, [], {}, True, 1.5, string.printable, [[1]], {"a": [None]}]
    return {key: draw.choice(values)}


@pytest.mark.parametrize("count", [20, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "tokenizer.json", "generation_config.json"])
def test_any_other_value_is_loaded_or_one_line(file, count, stored, capfd):
    whole = (stored / file).read_text()
    table = json.loads(whole) | dict.fromkeys(("auto_map", "eos_token_id", "sliding_window", "is_causal"))
    for seed in range(count):
        (stored / file).write_text(whole)
        change_json(stored / file, **bad_values(table, seed))
        capfd.readouterr()
        assert "\n" not in outcome(stored), seed
        assert capfd.readouterr() == ("", ""), seed


def test_an_id_is_downloaded_file_by_file_and_held_to_the_same(stored, tmp_path, monkeypatch, capfd):
    cache = tmp_path / "hub" / "models--some--model"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0" * 40)
    (cache / "snapshots").mkdir()
    stored.rename(folder := cache / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert model_spec("some/model").layers == 2
    assert ModelFiles("some/model").weights() == [folder / "model.safetensors"]
    (folder / "tokenizer_config.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json: a JSON object, got \[\]"):
        ModelFiles("some/model").check_tokenizer()
    with pytest.raises(DataMissing, match="a known name, a Hugging Face id or a folder, got another/model: "):
        model_spec("another/model")


@pytest.mark.parametrize("name", ["a b", "a\nb", "a\0b", "x" * 5000, "/no/such/folder", "../..", "\ud800", "a/b/c", ""])
def test_names_that_are_none_are_one_line(name, monkeypatch, capfd):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PcbenchError) as found:
        model_spec(name)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 600
