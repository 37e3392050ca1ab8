"""Sections by kind of measurement, and kinds that pcbench does not ship."""

import re

import pytest
from report.made_accuracy import accuracy_records
from report.made_kernels import kernel_records
from report.made_losses import loss_records
from report.made_memory import memory_records, throughput_records
from report.made_runs import read_page, suite_records, write_run
from report.made_toys import toy, toy_records

from pcbench.registry import OWN_KINDS
from pcbench.report import build
from pcbench.report.reading.kinds import OTHERS, SECTIONS, sections_of
from pcbench.report.sections import SECTIONS as MADE

EVERY = ["verdict", "trust", "correctness", "distribution", "cells", "provenance"]
CAPTION = "Cells of kind toy, one row a cell"


def anchors(page):
    return {a["href"].removeprefix("#") for tag, a in page.elements if tag == "a"}


def test_every_section_of_a_kind_is_one_that_is_made():
    named = {name for kind in ("toy", *SECTIONS) for name in sections_of(kind)}
    assert named < {make.__name__ for make in MADE}
    assert sections_of("toy") == OTHERS


def test_every_kind_that_pcbench_ships_has_sections():
    assert set(SECTIONS) == set(OWN_KINDS)


ALL = [suite_records, throughput_records, memory_records, accuracy_records, kernel_records, loss_records]


@pytest.mark.parametrize("make", ALL)
def test_a_page_of_one_kind_has_no_section_of_another(report, make):
    records = make()
    (kind,) = {record.kind for record in records}
    page = report(records)
    own = ["time" if name == "times" else name for name in sections_of(kind)]
    shown = [name for name in page.sections if name not in (*EVERY, "prompts")]
    assert shown
    assert set(shown) <= set(own)
    assert anchors(page) <= set(page.ids)


def test_a_kind_from_elsewhere_has_status_parity_times_and_provenance(report):
    page = report(toy_records(), suite="toys")
    assert page.sections == ["verdict", "trust", "others", "distribution", "cells", "provenance"]
    assert anchors(page) <= set(page.ids)
    rows = {(row["cell"], row["workload"]): row for row in page.tables[CAPTION]}
    assert len(rows) == len(toy_records())
    fast = rows["fast", "sum of 1000"]
    assert (fast["status"], fast["parity (error / bound)"], fast["repeats"]) == ("ok", "0.2500", "5")
    assert (fast["p50 (ms)"], fast["p10 (ms)"], fast["p90 (ms)"]) == ("1.053", "1.021", "1.095")
    assert fast["p50, 95 %"] == "[1.032, 1.074]"
    assert rows["Full attention", "sum of 1000"]["parity (error / bound)"] == "stock code"
    assert "sum of 2000: 3.900 ms" in " ".join(page.text.split())
    commands = {row["command that measures it again"] for row in page.tables["Commands, one row a cell"]}
    assert "pcbench run --suite toys --method fast" in commands


def test_a_kind_from_elsewhere_shows_no_number_of_a_cell_that_is_not_ok_or_not_checked(report):
    page = report(toy_records(), suite="toys")
    for name, ended in (("slow", "timeout"), ("wrong", "ok")):
        for caption in (CAPTION, "All cells"):
            (row,) = [row for row in page.tables[caption] if row["cell"] == name]
            assert row["status"] == ended
            assert row["p50 (ms)"] == ""
    assert "toys: 10 s are over" in page.text
    assert "1 cell ended ok without a parity within its bound" in page.text


def test_a_kind_from_elsewhere_makes_no_headline_of_another(report):
    text = report(toy_records(), suite="toys").text
    for words in ("Kernels against", "Speed-up over", "Chunks that fit", "Score minus"):
        assert words not in text
    assert "No headline number: there is none for kind toy." in text


def test_a_kind_from_elsewhere_needs_no_length(report):
    page = report(toy_records(), suite="toys")
    headings = re.findall("<figcaption><b>([^<]*)</b>", page.html)
    assert headings == ["sum of 1000 to sum of 2000", "sum of 1000", "sum of 2000"]


def test_a_kind_from_elsewhere_changes_nothing_of_the_others(report):
    both, alone = report([*suite_records(), *toy_records()]), report(suite_records())
    captions = ["Times, one row a cell", "Speed-up against full attention, one row a cell", "Memory, one row a cell"]
    for caption in [*captions, "Accuracy, one row a cell", "Stages, one row a cell"]:
        assert len(both.tables[caption]) == len(alone.tables[caption])
    assert len(both.tables["All cells"]) == len(suite_records()) + len(toy_records())
    assert [row["kind"] for row in both.tables["All cells"]].count("toy") == len(toy_records())


def test_kinds_from_elsewhere_stand_apart(report):
    page = report([*toy_records(), toy("fast", "cpu", 1000, 1.0, kind="tally", suite="tallies")], suite="toys")
    assert len(page.tables[CAPTION]) == len(toy_records())
    assert len(page.tables["Cells of kind tally, one row a cell"]) == 1
    assert len(page.ids) == len(set(page.ids))


def test_a_kind_from_elsewhere_without_times_has_a_table_alone(report):
    page = report([toy("slow", "cpu", 1, None, status="error", reason="toys: no numbers")], suite="toys")
    assert page.sections == ["verdict", "trust", "others", "cells", "provenance"]
    assert [row["reason"] for row in page.tables[CAPTION]] == ["toys: no numbers"]


def test_a_report_of_a_kind_from_elsewhere_is_built_again_from_itself(tmp_path):
    first = build([write_run(tmp_path / "toys", toy_records(), suite="toys")])
    again = build([first], tmp_path / "again.html")
    assert again.read_bytes() == first.read_bytes()
    assert "others" in read_page(again).sections
