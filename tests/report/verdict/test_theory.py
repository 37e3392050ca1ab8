"""Fitted lines of times."""

from dataclasses import replace

import pytest

from pcbench.report.verdict.theory import fit


def test_fit_finds_the_two_parts_of_an_exact_line():
    found = fit([(n, 0.5 * n + 2e-4 * n * n) for n in (2048, 4096, 8192, 32768)])
    assert (found.linear, found.quadratic) == pytest.approx((0.5, 2e-4))
    assert found.deviation == pytest.approx(0, abs=1e-9)
    assert found.ms(1000) == pytest.approx(700)
    assert (found.shortest, found.longest) == (2048, 32768)


def test_fit_has_no_negative_part():
    bending = [(1000, 1000.0), (2000, 1800.0), (4000, 3000.0)]
    found = fit(bending)
    assert found.quadratic == 0
    assert found.linear > 0
    assert found.deviation == pytest.approx(max(abs(found.ms(n) / ms - 1) for n, ms in bending))


@pytest.mark.parametrize("part", ["linear", "quadratic"])
@pytest.mark.parametrize("factor", [0.999, 1.001])
def test_fit_has_the_least_squared_shares(part, factor):
    points = [(1000, 1100.0), (2000, 2050.0), (64000, 150000.0), (128000, 500000.0)]
    found = fit(points)

    def error(line):
        return sum((line.ms(n) / ms - 1) ** 2 for n, ms in points)

    assert error(found) < error(replace(found, **{part: getattr(found, part) * factor}))


@pytest.mark.parametrize("points", [[], [(1, 1.0)], [(1, 1.0), (2, 2.0)], [(1, 1.0), (2, 2.0), (2, 3.0)]])
def test_fit_needs_three_lengths(points):
    assert fit(points) is None
