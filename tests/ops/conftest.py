import pytest
import torch
from emulated import blocks_run
from tallies import TALLIES

from pcbench.ops.isa import cpu_isa, cpu_isas, use_cpu_isa


@pytest.fixture(autouse=True)
def _without_gradients(poisoned):
    with torch.no_grad():
        yield


@pytest.fixture(params=cpu_isas())
def isa(request):
    """Runs a test once for each instruction set of this CPU; test_instruction_sets.py names the others."""
    before = cpu_isa()
    use_cpu_isa(request.param)
    yield request.param
    use_cpu_isa(before)


def pytest_sessionfinish():
    TALLIES["emulated blocks"].update(blocks_run())
