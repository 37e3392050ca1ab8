"""The ops under torch.library's own checks and torch.compile."""

import pytest
import torch
from torch.library import opcheck

from pcbench import ops
from pcbench.measure.kernels.cases import CASES, CHANGED, run
from pcbench.ops.fakes import FAKES

SOME = {
    "cached_attention": ("decode, 33 keys", "query", "keys evicted by query head", "no slots"),
    "calibrated_attention": ("33 keys", "no mass", "unequal lengths", "incoming state", "sliced", "0 keys"),
    "chunk_select": ("unequal rows",),
    "chunk_topk": ("more than kept", "nothing new"),
    "decode_attention": ("budgets of heads", "keys that heads share"),
    "dual_chunk_attention": ("unequal lengths", "listed chunks"),
    "key_mass": ("unequal lengths", "no mass"),
    "merge_states": ("2 parts", "sliced"),
    "quantized_attention": ("31 keys", "query", "int4, D 64, 1 rows", "no slots"),
    "query_nll_update": ("a later tile", "0 columns"),
    "select_tokens": ("everything at once", "33 keys"),
    "window_mass": ("query", "one row"),
}
CHOSEN = [case for case in CASES if case.name in SOME[case.op]]


def arguments(case, device):
    return case.inputs(device, torch.float32)


@pytest.mark.parametrize("case", [c for c in CHOSEN if c.op in FAKES], ids=str)
def test_opcheck_passes(case, device):
    inputs = arguments(case, device)
    op = getattr(torch.ops.pcbench, case.op).default
    positional = [a.name for a in op._schema.arguments if not a.kwarg_only]
    opcheck(op, tuple(inputs.pop(name) for name in positional), inputs)


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("case", CHOSEN, ids=str)
def test_op_compiles_without_a_graph_break(case, dynamic, device):
    torch._dynamo.reset()
    names = list(arguments(case, device))

    def call(*values):
        result = getattr(ops, case.op)(**dict(zip(names, values, strict=True)))
        return result if isinstance(result, tuple) else (result,)

    def changed(inputs):
        return [inputs[name] for name in CHANGED.get(case.op, ())]

    eager, compiled = arguments(case, device), arguments(case, device)
    wanted = [*call(*eager.values()), *changed(eager)]
    found = torch.compile(call, fullgraph=True, backend="aot_eager", dynamic=dynamic)(*compiled.values())
    for a, b in zip(wanted, [*found, *changed(compiled)], strict=True):
        assert a is b is None or torch.equal(a.nan_to_num(), b.nan_to_num())


@pytest.mark.parametrize("name", sorted(FAKES))
def test_direct_call_refuses_gradients(name, device):
    case = next(c for c in CHOSEN if c.op == name)
    inputs = arguments(case, device)
    floats = [k for k, v in inputs.items() if isinstance(v, torch.Tensor) and v.is_floating_point()]
    inputs[floats[0]] = inputs[floats[0]].clone().requires_grad_()
    with torch.enable_grad():
        with pytest.raises(RuntimeError, match=f"{name}: compiled ops have no gradient"):
            getattr(torch.ops.pcbench, name)(**inputs)
        with pytest.raises(RuntimeError, match=f"{name}: compiled ops have no gradient"):
            getattr(ops, name)(**inputs)
    run(ops, name, inputs)
