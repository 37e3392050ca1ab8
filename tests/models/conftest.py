import shutil

import pytest
from stored_model import save_model


@pytest.fixture(scope="session")
def whole_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_model(folder)
    return folder


@pytest.fixture
def stored(whole_model, tmp_path):
    """A model of random weights with its tokenizer, to be changed."""
    return shutil.copytree(whole_model, tmp_path / "model")
