import pytest

from pcbench.errors import BackendUnavailable, ConfigError
from pcbench.measure.machine.devices import Build, resolve_device, torch_device

CPU = Build(cuda=None, hip=None, gpu=False)
CUDA = Build(cuda="13.0", hip=None, gpu=True)
ROCM = Build(cuda=None, hip="7.0.51831", gpu=True)
CUDA_WITHOUT_GPU = Build(cuda="13.0", hip=None, gpu=False)


@pytest.mark.parametrize(
    ("build", "auto"), [(CPU, "cpu"), (CUDA, "cuda"), (ROCM, "rocm"), (CUDA_WITHOUT_GPU, "cpu")], ids=str
)
def test_auto_takes_the_gpu_that_is_there(build, auto):
    assert resolve_device("auto", build) == auto


@pytest.mark.parametrize("build", [CPU, CUDA, ROCM, CUDA_WITHOUT_GPU], ids=str)
def test_cpu_is_always_there(build):
    assert resolve_device("cpu", build) == "cpu"


@pytest.mark.parametrize(
    ("requested", "build", "message"),
    [
        ("cuda", CPU, "torch is built for the CPU, not for CUDA; available here: cpu"),
        ("rocm", CPU, "torch is built for the CPU, not for ROCm; available here: cpu"),
        ("rocm", CUDA, "torch is built for CUDA, not for ROCm; available here: cuda, cpu"),
        ("cuda", ROCM, "torch is built for ROCm, not for CUDA; available here: rocm, cpu"),
        ("cuda", CUDA_WITHOUT_GPU, "torch is built for CUDA 13.0 and finds no GPU; available here: cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(requested, build, message):
    with pytest.raises(BackendUnavailable) as caught:
        resolve_device(requested, build)
    assert str(caught.value).startswith(f"--device: {requested} needs a ")
    assert str(caught.value).endswith(message)
    assert caught.value.reasons[requested]


def test_an_unknown_device_is_a_usage_error():
    with pytest.raises(ConfigError, match='--device: unknown device "cdua"; did you mean "cuda"'):
        resolve_device("cdua", CUDA)


@pytest.mark.parametrize(("kind", "name"), [("cpu", "cpu"), ("cuda", "cuda"), ("rocm", "cuda")])
def test_torch_calls_both_gpus_cuda(kind, name):
    assert torch_device(kind).type == name
