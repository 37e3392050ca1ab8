import pytest
import torch
from emulated import blocks_run
from tallies import TALLIES

from pcbench import _build_info
from pcbench.ops.isa import cpu_isa, cpu_isas, use_cpu_isa


@pytest.fixture(autouse=True)
def _without_gradients(poisoned):
    with torch.no_grad():
        yield


@pytest.fixture(params=_build_info.cpu_isas)
def isa(request):
    """Runs a test once for each instruction set that was built and that this CPU has."""
    if request.param not in cpu_isas():
        pytest.skip(f"this CPU has no {request.param}")
    before = cpu_isa()
    use_cpu_isa(request.param)
    yield request.param
    use_cpu_isa(before)


def pytest_sessionfinish():
    TALLIES["emulated blocks"].update(blocks_run())
