"""What every test may use: the devices that run ops here, and memory that is never accidentally zero."""

import os

# workers of pytest-xdist share the cores; torch reads this when it is imported
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from builds import give_up
from deprecations import forbid_deprecated_calls
from gpu_code import program
from installed import install  # noqa: F401
from sanitized import library_folder
from tallies import pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown  # noqa: F401

from pcbench import _build_info, ops
from pcbench.measure.machine import ceilings, load
from pcbench.system.terminal import Terminal

# what a shell or a torchrun around the tests may have set
for name in ("FORCE_COLOR", "PCBENCH_TRACEBACK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
    os.environ.pop(name, None)
# without it some versions of torch refuse products of matrices on CUDA to a test that wants memory `poisoned`
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

forbid_deprecated_calls()
# a run of a test is announced by a short look, whatever else this machine computes
ceilings.GLANCE_S, load._load = 0.0, lambda: 0.0
_build_info.__file__ = str(library_folder(_build_info.__file__) / "_build_info.so")

# device → compiled backend
DEVICES = {"cpu": "cpu"}
if torch.cuda.is_available():
    DEVICES["cuda"] = "hip" if torch.version.hip else "cuda"


@pytest.fixture(autouse=True)
def _same_environment():
    """What a command sets in this process, such as the folder of data, ends with its test."""
    before = dict(os.environ)
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)


def pytest_runtest_setup(item):
    """A gate whose program is missing is skipped with the reason; in CI, where every gate must run, it fails."""
    for mark in item.iter_markers("needs"):
        if not any(map(program, mark.args)):
            give_up(f"needs {' or '.join(mark.args)} on this machine")


@pytest.fixture(params=DEVICES)
def device(request):
    """A device of this machine whose compiled backend can run."""
    reason = ops.why_not(DEVICES[request.param])
    if reason and request.param != "cpu":
        pytest.skip(reason)
    assert reason is None
    return torch.device(request.param)


@pytest.fixture(scope="session")
def console():
    """For progress that nobody reads."""
    with open("/dev/null", "w") as nowhere:
        made = Terminal(stderr=True)
        made.file = nowhere
        yield made


@pytest.fixture
def poisoned():
    """Uninitialised memory, of compiled ops too, is NaN or the largest integer: an unwritten result shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    assert torch.ops.aten.new_empty(torch.zeros(1), [9]).isnan().all()
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]
