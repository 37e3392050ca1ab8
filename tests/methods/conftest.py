import pytest

from pcbench import ops


@pytest.fixture(params=["reference", "cpu"])
def backend(request):
    why = ops.why_not(request.param)
    if why:
        pytest.skip(why)
    return request.param
