"""One name, one signature: reference, ops floor and schema."""

import inspect

import pytest
import torch

from pcbench import ops, reference
from pcbench.measure.kernels.cases import CHANGED
from pcbench.ops.fakes import COMPOSITES, FAKES

COMPILED = sorted(set(reference.__all__) - set(COMPOSITES))


def schema_of(name):
    assert ops.why_not("cpu") is None
    return getattr(torch.ops.pcbench, name).default._schema


def test_names_are_those_of_the_reference():
    assert ops.why_not("cpu") is None
    defined = [s.name for s in torch._C._jit_get_all_schemas() if s.name.startswith("pcbench::")]
    # parts of others
    defined = [name for name in defined if not name.startswith("pcbench::_")]
    assert sorted(set(reference.__all__)) == sorted(
        set(ops.__all__) - {"automatic_backend", "backend", "compiled_backend", "why_not"}
    )
    assert sorted(FAKES) == COMPILED
    assert sorted(name.removeprefix("pcbench::") for name in defined) == COMPILED


@pytest.mark.parametrize("name", reference.__all__)
def test_wrapper_has_the_signature_of_the_reference(name):
    assert inspect.signature(getattr(ops, name)) == inspect.signature(getattr(reference, name))


@pytest.mark.parametrize("name", COMPILED)
def test_schema_has_the_signature_of_the_reference(name):
    wanted = [
        (p.name, p.kind is p.KEYWORD_ONLY, p.default is p.empty, None if p.default is p.empty else p.default)
        for p in inspect.signature(getattr(reference, name)).parameters.values()
    ]
    found = [
        (a.name, a.kwarg_only, not a.has_default_value(), a.default_value if a.has_default_value() else None)
        for a in schema_of(name).arguments
    ]
    assert found == wanted


@pytest.mark.parametrize("name", COMPILED)
def test_schema_says_what_changes(name):
    changed = tuple(a.name for a in schema_of(name).arguments if a.alias_info is not None and a.alias_info.is_write)
    assert changed == CHANGED.get(name, ())


@pytest.mark.parametrize("name", COMPILED)
def test_fake_takes_the_arguments_of_the_op(name):
    arguments = inspect.signature(getattr(reference, name)).parameters
    positional = [p.name for p in arguments.values() if p.kind is not p.KEYWORD_ONLY]
    keyword = [p.name for p in arguments.values() if p.kind is p.KEYWORD_ONLY]
    inspect.signature(FAKES[name]).bind(*positional, **dict.fromkeys(keyword))
