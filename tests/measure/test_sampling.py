from random import Random

import torch

from pcbench import reference
from pcbench.measure.kernels.cases import run
from pcbench.measure.kernels.draws import Draws
from pcbench.measure.kernels.shapes import SHAPES
from pcbench.measure.sampling import compare_samples, sample_heads


def call(op, **numbers):
    inputs = SHAPES[op](**numbers).inputs(Draws(1, torch.device("cpu"), torch.float32))
    return inputs, run(reference, op, inputs)


def test_sample_heads_cuts_arguments_and_results_alike():
    inputs, got = call("calibrated_attention", batch=3, heads=4, kv_heads=2, keys=70, dim=64, mass_rows=8)
    cut, results = sample_heads("calibrated_attention", inputs, got, Random(5))
    assert cut["q"].shape == results["out"].shape == (1, 2, 70, 64)
    assert cut["k"].shape == (1, 1, 70, 64)
    again = run(reference, "calibrated_attention", cut)
    torch.testing.assert_close(results["out"], again["out"])
    torch.testing.assert_close(results["mass"], again["mass"])


def test_compare_samples_checks_a_small_call_whole():
    inputs, got = call("cached_attention", batch=2, heads=4, kv_heads=2, keys=9, dim=64)
    assert all(found.ok for found in compare_samples("cached_attention", inputs, got, 0).values())
    for row in range(2):
        wrong = got | {"out": got["out"].clone()}
        wrong["out"][row, 3, 0, 5] += 1e-3
        assert not compare_samples("cached_attention", inputs, wrong, 0)["out"].ok


def test_compare_samples_of_a_large_call_are_seeded_and_see_every_row():
    inputs, got = call("calibrated_attention", batch=2, heads=2, kv_heads=2, keys=80, dim=64)
    got["out"][:, :, 79, 0] += 1e-3
    first, second = (compare_samples("calibrated_attention", inputs, got, 4) for _ in range(2))
    assert first == second
    assert not first["out"].ok
    assert first["lse"].ok
