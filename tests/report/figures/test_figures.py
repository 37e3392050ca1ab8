"""Figures: ids of their own, themed colours, and markers where the data is."""

import re
import warnings

import matplotlib as mpl
import pytest

from pcbench.report.figures import (
    Bar,
    Curve,
    Dot,
    Estimated,
    Point,
    Run,
    against_length,
    forest,
    grouped,
    heat,
    in_order,
    scatter,
    stacked,
)
from pcbench.report.figures.svg import colour, glyph, marker
from pcbench.report.reading.results import Series
from pcbench.report.wording import Estimate

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


def test_against_length_writes_the_mark_beside_a_missing_value():
    assert ">OOM<" in draw([*POINTS, Point(A, 16384, None, mark="OOM")])


def test_against_length_draws_a_curve_in_place_of_the_line():
    curve = Curve(A, (2048, 8192), lambda tokens: tokens / 400)
    fitted = str(against_length("x", "t", POINTS, "time", "s", curves=[curve]))
    assert "stroke-dasharray" in fitted
    assert len(max(re.findall(r' d="(M[^"]*)"', fitted), key=len)) > len(
        max(re.findall(r' d="(M[^"]*)"', draw()), key=len)
    )


def test_grouped_draws_each_part_from_zero():
    svg = str(grouped("x", "t", [Bar("one", {"a": 4.0, "b": 2.0}), Bar("two", {"b": 1.0})], ["a", "b"], "MiB"))
    corners = [[float(x) for x in re.findall(r"[\d.]+", d)] for d in re.findall(r'd="M ([\d. ]+)z', svg)]
    # behind the bars lie the figure and the axes
    bars = [(min(c[::2]), max(c[::2])) for c in corners if len(c) >= 8][2:]
    assert len({left for left, _ in bars}) == 1
    widths = [right - left for left, right in bars]
    assert sorted(width / min(widths) for width in widths) == pytest.approx([1.0, 2.0, 4.0], rel=0.02)


DOTS = [
    Dot(A, Estimate(-1.0, -2.0, 0.5), Estimate(2.0, 1.8, 2.2), True),
    Dot(B, Estimate(-3.0, None, None), Estimate(1.5, None, None), False),
]


def test_scatter_has_bars_both_ways_where_there_are_intervals():
    both = str(scatter("x", "t", DOTS, "points", "speed-up"))
    one = str(scatter("x", "t", [DOTS[0]], "points", "speed-up"))
    assert both.count("var(--s0)") == one.count("var(--s0)")
    # two bars and a marker; without intervals the marker alone
    assert len(re.findall(r"<path[^>]*stroke: var\(--s0\)", both)) == 2 + 1
    assert len(re.findall(r"<path[^>]*stroke: var\(--s1\)", both)) == 1


def test_scatter_fills_only_the_front():
    svg = str(scatter("x", "t", DOTS, "points", "speed-up"))
    assert re.search(r"fill: var\(--s0\)", svg)
    assert not re.search(r"fill: var\(--s1\)", svg)


def test_forest_has_a_row_a_subject_and_hollow_markers_without_intervals():
    found = [Estimated("r <b>", A, 1.0, 0.5, 1.5), Estimated("s", A, 2.0, None, None), Estimated("s", B, 3.0, 2.0, 4.0)]
    svg = str(forest("x", "t", found, "points", neutral=0.0))
    assert "r &lt;b&gt;" in svg
    assert len(re.findall(r">(?:r &lt;b&gt;|s)</text>", svg)) == 2
    assert "fill: var(--paper)" in svg


def test_heat_writes_each_share_and_leaves_gaps_empty():
    svg = str(heat("x", "t", [[1.0, None], [0.25, 0.0]], ["top", "low"], ["2K", "4K"], "tokens", "depth"))
    assert re.findall(r">(\d+)</text>", svg) == ["100", "25", "0"]
    tints = [float(x) for x in re.findall(r"fill: var\(--ink\); opacity: ([\d.]+)", svg)]
    assert tints[0] > tints[1] > tints[2] > 0


def test_in_order_places_values_over_their_median_turn_by_turn():
    svg = str(in_order("x", "t", [Run(A, [1.0, 1.0, 2.0]), Run(B, [5.0])]))
    places = [(float(x), float(y)) for x, y in re.findall(r'<use href="[^"]*" x="([\d.]+)" y="([\d.]+)"', svg)]
    first, second, third = places[:3]
    assert first[0] < second[0] < third[0]
    assert first[1] == second[1] > third[1]
