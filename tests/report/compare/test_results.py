"""Memory and endings of runs against each other."""

from dataclasses import replace

import pytest
from report.made_comparisons import write
from report.made_runs import record, stock

from pcbench.report.compare.results import endings, memory_changes
from pcbench.report.compare.runs import read_compared


def test_memory_changes_list_what_grew_or_fits_less_first(tmp_path):
    before = replace(record(), kv_bytes=100, peak_bytes=1000, longest_context_tokens=4096, chunks_that_fit=7)
    after = replace(before, kv_bytes=110, peak_bytes=500, longest_context_tokens=2048)
    found = memory_changes(read_compared([write(tmp_path / "a", [before]), write(tmp_path / "b", [after])]))
    assert [(c.what, c.before, c.after) for c in found] == [
        ("longest_context_tokens", 4096, 2048),
        ("kv_bytes", 100, 110),
        ("peak_bytes", 1000, 500),
    ]


@pytest.mark.parametrize(("passes", "overlap"), [([500, 520, 600], True), ([610, 620, 630], False)])
def test_memory_changes_say_where_passes_of_a_peak_overlap(tmp_path, passes, overlap):
    before = replace(record(), peak_bytes=580, peak_samples_bytes=[560, 580, 600])
    after = replace(before, peak_bytes=passes[1], peak_samples_bytes=passes)
    (change,) = memory_changes(read_compared([write(tmp_path / "a", [before]), write(tmp_path / "b", [after])]))
    assert (change.what, change.overlap) == ("peak_bytes", overlap)


def test_endings_list_lost_cells_first_and_missing_ones_by_why(tmp_path):
    only_before, lost, new = record(context_tokens=1), record(context_tokens=2), record(context_tokens=4)
    unfinished, alike = record(context_tokens=3), stock(status="unsupported", reason="no kernel here")
    before = write(tmp_path / "a", [only_before, lost, unfinished, alike])
    failed = replace(lost, status="error", reason="ValueError: boom")
    other = replace(alike, reason="no kernel there")
    after = write(tmp_path / "b", [failed, new, other], cells=[failed.cell, new.cell, unfinished.cell, other.cell])
    found = {e.name.split()[-2]: list(e.endings.values()) for e in endings(read_compared([before, after]))}
    assert found == {
        "1": ["ok", "not in the run"],
        "2": ["ok", "error: ValueError: boom"],
        "3": ["ok", "not finished"],
        "4": ["not in the run", "ok"],
    }
    assert list(found)[-1] == "4"
