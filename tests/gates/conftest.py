import subprocess

import pytest
from builds import ROOT, give_up, gpu_library
from gpu_code import kernels, missing, program

BACKENDS = ("cuda", "hip")


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request):
    """A GPU backend whose compiler is on this machine; its library is built."""
    gpu_library(request.param)
    return request.param


@pytest.fixture(scope="session")
def library(backend):
    """The library of a GPU backend."""
    return gpu_library(backend)


@pytest.fixture(scope="session")
def code(backend, library):
    """Every kernel of a library."""
    if missing(backend):
        give_up(f"needs {' and '.join(missing(backend))} on this machine")
    return kernels(backend, library)


@pytest.fixture
def compile_shared():
    """compile_shared(C++ source, path): a shared library with the headers of ext in reach; returns the path."""

    def compile_to(source, path):
        options = ["-std=c++20", "-shared", "-fPIC", f"-Wl,-soname,{path.name}", f"-I{ROOT / 'ext'}", "-x", "c++"]
        command = [program("c++") or program("g++"), *options, "-", "-o", path, "-ldl"]
        subprocess.run(command, input=source, text=True, check=True)
        return path

    return compile_to
