"""Raw times of large runs."""

import hashlib
import json

from report.made_runs import read_page, record, write_run

from pcbench.report import build
from pcbench.report.reading.runs import read_runs
from pcbench.report.reading.thinning import FEWEST, TIMES, Thinned, thin


def test_thin_leaves_small_runs_alone():
    records = [record(samples_ms=[1.0, 2.0, 3.0]), record(samples_ms=None, seed=1)]
    assert thin(records) == (records, {})


def test_thin_keeps_every_kth_time_and_the_hash_of_all():
    long = [record(samples_ms=[float(i) for i in range(TIMES)], seed=seed) for seed in range(2)]
    kept, thinned = thin(long)
    assert sum(len(one.samples_ms) for one in kept) <= TIMES
    assert kept[0].samples_ms == kept[1].samples_ms == [float(i) for i in range(0, TIMES, 2)]
    whole = hashlib.sha256(json.dumps(long[0].samples_ms, separators=(",", ":")).encode()).hexdigest()[:16]
    assert thinned[long[0].cell] == Thinned(TIMES, whole)
    assert len(long[0].samples_ms) == TIMES


def test_thin_keeps_a_few_of_every_cell():
    many = [record(samples_ms=[1.0] * 40, seed=seed) for seed in range(2000)]
    assert {len(one.samples_ms) for one in thin(many)[0]} == {FEWEST}


def test_page_says_what_was_thinned_and_rebuilds_itself(tmp_path):
    folder = write_run(tmp_path / "a", [record(samples_ms=[float(i + 1) for i in range(TIMES + 1)])])
    page = read_page(build([folder]))
    (row,) = page.tables["Raw times, one row a cell"]
    assert row["taken"] == f"{TIMES // 2 + 1:,} of {TIMES + 1:,} shown"
    assert "every k-th time is kept here" in page.text
    assert read_runs([page.path]) == read_runs([folder])
    assert build([page.path], tmp_path / "again.html").read_bytes() == page.path.read_bytes()
