"""Figures: ids of their own, themed colours, and markers where the data is."""

import re
import warnings

import matplotlib as mpl
import pytest

from pcbench.report.plots import Bar, Point, against_length, stacked
from pcbench.report.results import Series
from pcbench.report.svg import colour, glyph, marker

A, B = Series(0, "a"), Series(1, "b")
POINTS = [Point(A, 2048, 5.2, 5.1, 5.4), Point(A, 8192, 38.2, 37.0, 40.0), Point(B, 8192, 21.9), Point(B, 2048, None)]


def draw(points=POINTS, scale="time", name="x"):
    return str(against_length(name, "title", points, scale, "seconds"))


def test_against_length_is_deterministic_and_leaves_settings_alone():
    before = dict(mpl.rcParams)
    assert draw() == draw()
    assert dict(mpl.rcParams) == before


def test_against_length_ids_do_not_clash():
    ids = [set(re.findall(r'id="([^"]*)"', draw(name=name))) for name in ("x", "y")]
    assert all(ids)
    assert not ids[0] & ids[1]
    assert set(re.findall(r'href="#([^"]*)"', draw())) <= ids[0]


def test_against_length_has_no_fixed_colours_or_fonts():
    svg = draw()
    assert not re.search(r"#[0-9a-f]{6}", svg)
    assert "font-family" not in svg
    assert "xmlns" not in svg
    assert "var(--s0)" in svg


def test_against_length_draws_missing_values_above_the_frame():
    svg = draw()
    heights = [float(y) for y in re.findall(r'<use href="[^"]*" x="[^"]*" y="([^"]*)"', svg)]
    frame = min(float(y) for y in re.findall(r'd="M 66 [\d.]+ 66 ([\d.]+)', svg))
    assert sum(y < frame for y in heights) == 1


@pytest.mark.parametrize("scale", ["time", "ratio", "bytes", "share"])
@pytest.mark.parametrize("value", [1e-3, 1.0, 1.02, 97.0, 1e6])
def test_against_length_labels_any_range(scale, value):
    points = [Point(A, 2048, value, value * 0.99, value * 1.01), Point(A, 4096, value * 1.05)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = draw(points, scale)
    assert len(re.findall(r"<text", svg)) >= 5


def test_against_length_thins_many_lengths():
    points = [Point(A, 1024 + 512 * i, 1.0 + i) for i in range(60)]
    assert len(re.findall(r"<text", draw(points))) < 25


def test_against_length_takes_names_as_they_are():
    assert "$\\frac{ &lt;" in str(against_length("x", "t", POINTS, "share", "$\\frac{ <"))


def test_stacked_shows_labels_as_text():
    hostile = "<b>$x$</b> & \"'"
    svg = str(stacked("x", "t", [Bar(hostile, {"a": 5.0, "b": 3.0}, 9.0)], ["a", "b"]))
    assert "<b>" not in svg
    assert "&lt;b&gt;$x$&lt;/b&gt; &amp; \"'" in svg


def test_stacked_hatches_every_second_stage():
    svg = str(stacked("x", "t", [Bar("a", {"a": 5.0, "b": 3.0}, 9.0)], ["a", "b"]))
    (pattern,) = re.findall(r'<pattern[^>]* id="([^"]*)"', svg)
    assert pattern.startswith("x-")
    assert f"url(#{pattern})" in svg


def test_series_differ_in_colour_and_marker():
    looks = {(colour(Series(i, "")), marker(Series(i, ""))) for i in range(56)}
    assert len(looks) == 56
    assert len({str(glyph(Series(i, ""))) for i in range(56)}) == 56
