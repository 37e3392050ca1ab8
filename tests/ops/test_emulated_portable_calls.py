"""What 16-bit calls run a portable kernel, and that each is counted with its reason."""

from functools import partial

import pytest
import torch
from emulated import LIBRARIES, emulated_ops

from pcbench.measure.kernels import attention_cases, key_mass_cases
from pcbench.measure.kernels.cases import Case, check_case
from pcbench.ops.portable import portable_calls


def counted(library, case, dtype=torch.bfloat16, **changes):
    """The portable calls that a case adds, if its results are right."""
    ops = emulated_ops(library)
    before = ops.portable_calls()
    changed = Case(case.op, case.name, lambda draw: case.make(draw) | {n: make(draw) for n, make in changes.items()})
    for result, comparison in check_case(changed, ops, "cpu", dtype).items():
        assert comparison.ok, f"{result}: {comparison}"
    return ops.portable_calls() - before


def calibrated(**changes):
    return Case("calibrated_attention", "portable", partial(attention_cases.calibrated, rows=9, keys=40, **changes))


def cached(listed=1, **changes):
    """`listed` segments of three keys in the first slots."""
    shape = {"lengths": [[3]] * listed, "slots": [list(range(listed))], "rows": 2, "heads": 2}
    return Case("cached_attention", "portable", partial(attention_cases.cached, **(shape | changes)))


def unaligned(*shape):
    return lambda draw: draw.normal(*shape[:-1], shape[-1] + 1)[..., 1:]


@pytest.mark.parametrize("library", LIBRARIES)
def test_unaligned_views_are_counted_by_op(library):
    reason = " ran the portable kernel: rows that are not 16-byte aligned"
    found = counted(library, calibrated(), k=unaligned(1, 1, 40, 64))
    assert found == {f"{op}{reason}": 1 for op in ("calibrated_attention", "the mass of calibrated_attention")}
    assert counted(library, cached(), q=unaligned(1, 2, 2, 64)) == {f"cached_attention{reason}": 1}
    decode = Case("decode_attention", "portable", partial(attention_cases.decode, heads=2, lengths=[[40]]))
    assert counted(library, decode, q=unaligned(1, 2, 1, 64)) == {f"decode_attention{reason}": 1}
    mass = Case("key_mass", "portable", partial(key_mass_cases.key_mass, rows=9, keys=40))
    assert counted(library, mass, k=unaligned(1, 1, 40, 64)) == {f"key_mass{reason}": 1}
    window = Case("window_mass", "portable", attention_cases.WINDOW["query"])
    assert counted(library, window, q_last=unaligned(1, 4, 4, 64)) == {f"window_mass{reason}": 1}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", [calibrated(), cached(), cached(lengths=[[0]])], ids=str)
def test_calls_of_tensor_cores_and_float32_calls_are_not_counted(case, library):
    assert not counted(library, case)
    assert not counted(library, case, torch.float32)


def test_more_listed_slots_than_cuda_takes_are_counted():
    assert not counted("cuda", cached(512))
    assert counted("cuda", cached(513)) == {"cached_attention ran the portable kernel: more than 512 listed slots": 1}


# groups of 64 slots are read one after the other; parts begin anywhere
@pytest.mark.parametrize("causal_last", [True, False])
@pytest.mark.parametrize("listed", [63, 64, 65, 128, 300])
def test_hip_takes_any_number_of_listed_slots(listed, causal_last):
    lengths = [[40 * (i % 3), 5 + i % 7] for i in range(listed)]
    # the last used place is not the last
    slots = [[*range(listed)], [*reversed(range(listed - 2)), -1, -1]]
    assert not counted("hip", cached(listed, lengths=lengths, slots=slots, heads=4, causal_last=causal_last))


@pytest.mark.parametrize("library", LIBRARIES)
def test_strides_of_single_elements_do_not_matter(library):
    def odd(*shape):
        """Every dimension of one element has an odd stride."""

        def make(draw):
            x = draw.normal(*shape)
            return x.as_strided(shape, [s if n > 1 else 7 for n, s in zip(shape, x.stride(), strict=True)])

        return make

    found = counted(library, calibrated(), q=odd(1, 2, 9, 64), k=odd(1, 1, 40, 64), v=odd(1, 1, 40, 64))
    assert not found
    assert not counted(library, cached(lengths=[[1]]), q=odd(1, 2, 2, 64))
    assert not counted(library, cached(rows=1, heads=1), q=odd(1, 1, 1, 64))


def test_portable_calls_are_none_where_there_is_no_gpu_library():
    assert [portable_calls(name) for name in ("reference", "cpu")] == [{}, {}]
