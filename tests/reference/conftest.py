import pytest
import torch
from hypothesis import settings

# the same examples on every machine; no limits on time, CI machines are shared
settings.register_profile("pcbench", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("pcbench")


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield
