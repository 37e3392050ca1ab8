"""Sections of methods side by side: which at which budget, and decoding."""

import re
from itertools import pairwise

import pytest
from report.made_methods import method_records
from report.made_runs import suite_records

from pcbench.report.figures import Spot, choices
from pcbench.report.reading.results import Series
from pcbench.report.wording import Estimate

CAPTION = "Choices by budget, one row a choice"


def test_a_page_says_which_method_at_which_budget(report):
    page = report(method_records())
    assert "budgets" in page.sections
    assert "cannot tell between SnapKV, H2O (best 90.00 [59.6, 98.2]), which are ahead of Random tokens" in " ".join(
        page.text.split()
    )
    rows = {row["choice"]: row for row in page.tables[CAPTION]}
    assert len(rows) == 7
    row = rows["SnapKV, 256 tokens kept"]
    assert (row["KV (MiB)"], row["KV, times smaller (×)"]) == ("6.000", "15.00")
    assert (row["score (×100)"], row["score, 95 %"]) == ("90.0", "[59.6, 98.2]")
    assert (row["decode (ms/token)"], row["decode, 95 %"]) == ("20.00", "[19.90, 20.10]")
    assert row["prefill, 95 %"] == "[37,900, 38,100]"
    on = {name: row["Score against bytes: front"] for name, row in rows.items()}
    assert [name for name, one in on.items() if one == "yes"] == ["SnapKV, 256 tokens kept", "SnapKV, 512 tokens kept"]
    assert rows["Random tokens, 256 tokens kept"]["Decoding against bytes: front"] == "yes"
    assert rows["Full attention"]["Score against prefill: front"] == "no"
    for title in ("Score against bytes", "Decoding against bytes", "Score against prefill"):
        assert f"{title}: passkey, 4,096 tokens" in page.text


def test_a_page_of_one_method_has_no_such_section(report):
    assert "budgets" not in report(suite_records()).sections


def test_decoding_has_its_chart_and_the_ratio_to_full_attention(report):
    page = report(method_records())
    rows = {row["cell"]: row for row in page.tables["Decoding, one row a cell"]}
    row = rows["SnapKV, 256 tokens kept"]
    assert (row["decode (ms/token)"], row["answers timed"]) == ("20.00", "5")
    assert (row["vs full (×)"], row["vs full, 95 %"], row["reading"]) == ("2.500", "[2.450, 2.550]", "faster")
    assert rows["Full attention"]["vs full (×)"] == ""
    assert "SnapKV, 256 tokens kept 2.500× [2.450, 2.550] (faster)" in page.text
    assert "decode, ms a token" in page.html


def test_a_trade_off_has_decoding_among_its_gains(report):
    (row, *_) = report(method_records()).tables["Trade-offs, one row a choice"]
    assert row["decoding speed-up over full attention (×)"] == "2.500"


def spots(count):
    return [
        Spot(Series(i, f"method number {i}"), Estimate(6.0, None, None), Estimate(90.0 - i, 60.0, 98.0), i == 0)
        for i in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 12, 16])
@pytest.mark.parametrize("scale", ["share", "time"])
def test_choices_name_every_method_and_no_name_covers_another(count, scale):
    full = Spot(None, Estimate(90.0, None, None), Estimate(100.0, None, None), False)
    svg = str(choices("x", "t", [*spots(count), full], scale, "MiB", "score"))
    found = re.findall(r"<text[^>]*transform=\"translate\(([\d.]+) ([\d.]+)\)[^>]*>method", svg)
    found = found or re.findall(r"<text[^>]* x=\"([\d.]+)\" y=\"([\d.]+)\"[^>]*>method", svg)
    assert len(found) == count
    heights = sorted(float(y) for _, y in found)
    assert all(b - a >= 13 for a, b in pairwise(heights))
    assert all(0 < y < 340 for y in heights)
    assert not re.search(r"#[0-9a-f]{6}", svg)


def test_choices_are_drawn_with_a_marker_each_filled_on_the_front():
    svg = str(choices("x", "t", spots(12), "share", "MiB", "score"))
    assert svg == str(choices("x", "t", spots(12), "share", "MiB", "score"))
    assert len(set(re.findall(r'<use href="(#[^"]*)"', svg))) >= 12
