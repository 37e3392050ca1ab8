"""Kernels of torch's SDPA by made-up times."""

import pytest
import torch

from pcbench.measure import sdpa
from pcbench.measure.sdpa import KERNELS, fastest, is_tried, trials

NAMES = {kernel: name for name, kernel in KERNELS.items()}


def tried(times):
    """Trials of kernels whose passes take these milliseconds, how many passes each had, and why others have no time."""
    refused = {}
    rest, passes = {name: iter(of) for name, of in times.items() if of}, dict.fromkeys(KERNELS, 0)

    def once(kernel):
        name = NAMES[kernel]
        passes[name] += 1
        if name not in rest:
            raise RuntimeError("No available kernel. Aborting execution.")
        return next(rest[name])

    return trials(once, refused.__setitem__), passes, refused


def test_a_kernel_is_as_fast_as_its_fastest_pass_and_one_that_does_not_run_is_left_out():
    found, passes, refused = tried(
        {"flash": [900.0, 20.0, 21.0], "cudnn": [700.0, 16.0, 15.0], "math": [80.0, 70.0, 71.0]}
    )
    assert found == {"flash": 20.0, "cudnn": 15.0, "math": 70.0}
    assert passes == {"flash": 3, "cudnn": 3, "efficient": 1, "math": 3}
    assert fastest(found) == "cudnn"
    assert refused == {"efficient": "No available kernel. Aborting execution."}


def test_a_first_pass_beyond_hope_is_the_only_one():
    late = 2 * 1000.0 + sdpa.FIRST_MS
    found, passes, _ = tried({"flash": [5000.0, 1000.0, 1000.0], "cudnn": [late, 900.0, 900.0], "math": [late + 1]})
    assert found == {"flash": 1000.0, "cudnn": 900.0, "math": late + 1}
    assert (passes["cudnn"], passes["math"]) == (3, 1)


def test_no_kernel_is_no_choice():
    found, _, refused = tried({})
    assert (found, fastest(found), list(refused)) == ({}, None, list(KERNELS))


def test_what_is_no_refusal_of_sdpa_goes_on():
    def once(kernel):
        raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        trials(once, {}.__setitem__)


def test_kernels_are_tried_on_gpus_alone():
    assert [is_tried(torch.device(kind)) for kind in ("cpu", "cuda")] == [False, True]
