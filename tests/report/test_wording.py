"""Numbers as text."""

import pytest

from pcbench.report.wording import (
    Estimate,
    claim,
    compact,
    counted,
    interval,
    number,
    percent,
    scientific,
    signed,
    spread,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0, "0"),
        (0.0, "0"),
        (8192, "8,192"),
        (123456, "123,456"),
        (21893.25, "21,893"),
        (37.421, "37.42"),
        (1.0, "1.000"),
        (0.31, "0.3100"),
        (0.00123456, "0.001235"),
        (3.1e-7, "3.10e-07"),
        (float("inf"), "inf"),
        (-2.5, "-2.500"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_number_scales_and_shortens():
    assert number(260 << 20, 1 / (1 << 20)) == "260.0"
    assert number(1.74536, digits=3) == "1.75"


def test_percent_and_spread():
    assert percent(0.8) == "80.0"
    assert percent(None) == ""
    assert spread(0.3755, 0.9638) == "[37.5, 96.4]"
    assert spread(None, 0.5) == ""


@pytest.mark.parametrize(("value", "text"), [(3.4, "+3"), (-46.2, "−46"), (0.0, "0"), (-0.2, "0"), (10.0, "+10")])
def test_signed(value, text):
    assert signed(value) == text


@pytest.mark.parametrize(
    ("tokens", "text"), [(2048, "2K"), (1048576, "1M"), (3000, "3,000"), (131072, "128K"), (512, "512")]
)
def test_compact(tokens, text):
    assert compact(tokens) == text


def test_counted():
    assert counted(1, "cell") == "1 cell"
    assert counted(1200, "cell") == "1,200 cells"
    assert scientific(0.004) == "4.00e-03"


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.1, 1.3, "faster"),
        (0.7, 0.9, "slower"),
        (0.9, 1.1, "no significant difference"),
        (1.0, 1.3, "no significant difference"),
        (0.8, 1.0, "no significant difference"),
        (None, None, "cannot tell, needs n ≥ 5"),
    ],
)
def test_claim_says_only_what_the_interval_allows(low, high, said):
    assert claim(Estimate(1.2, low, high), 1.0, "faster", "slower") == said


def test_interval_says_why_there_is_none():
    assert interval(Estimate(1.2, None, None)) == "none, needs n ≥ 5"
    assert interval(Estimate(1.2, 1.1, 1.3)) == "[1.100, 1.300]"
    assert interval(None) == ""
