"""Backends as objects."""

import pytest
import torch

from pcbench import ops, reference
from pcbench.errors import ConfigError
from pcbench.ops import backends


def test_backend_has_every_op():
    for name in ("reference", "cpu"):
        backend = ops.backend(name)
        assert backend.backend == name
        assert all(callable(getattr(backend, op)) for op in reference.__all__)


def test_backend_is_made_once():
    assert ops.backend("cpu") is ops.backend("cpu")


def test_reference_backend_is_the_reference():
    assert ops.backend("reference").merge_states is reference.merge_states


def test_backend_has_nothing_else():
    with pytest.raises(AttributeError, match="merge is no op; there are cached_attention"):
        _ = ops.backend("cpu").merge


def test_unknown_backend_is_named():
    with pytest.raises(ConfigError, match='unknown backend "cdua"; did you mean "cuda"'):
        ops.backend("cdua")


def test_compiled_backend_follows_the_device():
    assert [ops.compiled_backend(kind) for kind in ("cpu", "cuda", "rocm")] == ["cpu", "cuda", "hip"]


def test_cpu_backend_runs():
    outs, lses = torch.randn(3, 1, 2, 4, 64), torch.randn(3, 1, 2, 4)
    found, wanted = (backend.merge_states(outs, lses)[0] for backend in (ops.backend("cpu"), reference))
    torch.testing.assert_close(found, wanted)


def test_what_a_backend_refuses_is_a_constant_for_torch_compile():
    marked = torch.compiler.assume_constant_result(lambda: None)
    assert vars(backends._refusal) == vars(marked) != {}
