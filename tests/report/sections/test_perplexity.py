"""Perplexity on the page is that of the records."""

import math

import pytest
from report.made_losses import loss, loss_records, loss_vs_full

CAPTION = "Perplexity, one row a cell"


def rows(page, tokens):
    return {row["cell"]: row for row in page.tables[CAPTION] if row["context tokens"] == tokens}


def test_a_row_has_perplexity_and_what_may_be_said_beside_full_attention(report):
    page = report(loss_records(), suite="perplexity")
    found = rows(page, "8,192")
    assert len(page.tables[CAPTION]) == 8
    full, ours, snap, other = (found[name] for name in ("Full attention", "ParallelComp", "SnapKV", "other"))
    assert (full["perplexity"], full["perplexity, 95 %"]) == ("14.88", "[13.46, 16.44]")
    assert float(full["perplexity"]) == pytest.approx(math.exp(2.7), abs=0.005)
    assert (ours["minus full's (nats a token)"], ours["minus full's, 95 %"]) == ("+0.3100", "[+0.2600, +0.3600]")
    assert [row["reading"] for row in (full, ours, snap, other)] == ["", "higher", "no significant difference", ""]
    assert (other["status"], other["perplexity"], other["reason"]) == (
        "unsupported",
        "",
        "other: got one without `read`",
    )


def test_too_few_windows_cannot_tell(report):
    records = loss_records()[:2]
    few = loss_vs_full(0.31, 0.05, pairs=5)
    for name, value in few.items():
        setattr(records[1], name, value)
    page = report(records, suite="perplexity")
    assert rows(page, "2,048")["ParallelComp"]["reading"] == "cannot tell, needs n ≥ 6"
    assert "cannot tell, needs n ≥ 6" in page.text


def test_the_headline_is_the_least_loss_at_the_longest_length(report):
    text = " ".join(report(loss_records(), suite="perplexity").text.split())
    assert "Loss a token minus full attention's at 8,192 tokens" in text
    assert "+0.0100 nats" in text
    assert "the least of 2: 2.710 and 2.700 nats, 8 windows pair by pair" in text


def test_the_loss_by_position_is_of_the_longest_windows(report):
    page = report(loss_records(), suite="perplexity")
    text = " ".join(page.text.split())
    assert "Full attention at 8,192 tokens: 4.000 in the first of 32 parts, 2.062 in the last" in text
    assert "Full attention at 2,048 tokens" not in text


def test_a_loss_beyond_all_numbers_and_one_that_failed_parity_are_not_drawn(report):
    records = loss_records()
    for name, value in (loss(50.0) | {"perplexity": None}).items():
        setattr(records[1], name, value)
    records[2].parity_err = 1.0
    found = rows(report(records, suite="perplexity"), "2,048")
    assert found["ParallelComp"]["perplexity"] == "inf"
    assert found["SnapKV"]["perplexity"] == ""
