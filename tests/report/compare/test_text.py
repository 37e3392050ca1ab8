"""A comparison as tables and as Markdown."""

import re
from dataclasses import replace

import pytest
from report.made_comparisons import answered, quiet_pair, write
from report.made_runs import HOSTILE, record, stock

from pcbench.report.compare.comparison import compare
from pcbench.report.compare.text import headline, markdown, tables


@pytest.fixture
def compared(tmp_path):
    def make(*runs, **manifests):
        names = "abc"[: len(runs)]
        folders = [write(tmp_path / n, r, **manifests.get(n, {})) for n, r in zip(names, runs, strict=True)]
        return compare(folders, 0.05)

    return make


def by_title(found):
    return {table.title: table for table in tables(found)}


def test_headline_counts_the_verdicts_and_names_the_margin(compared):
    lengths = {1024: 1.2, 2048: 1.0}
    before = [r for n in lengths for r in quiet_pair(context_tokens=n)]
    after = [r for n, factor in lengths.items() for r in quiet_pair(factor, context_tokens=n)]
    found = compared([*before, stock(context_tokens=7)], [*after, stock(context_tokens=7, status="error", reason="x")])
    assert headline(found) == "2 ratios against a, margin 5 %: 1 regression, 1 same; 1 cell lost"


def test_headline_says_that_nothing_could_be_judged(compared):
    assert headline(compared([stock()], [stock()])) == (
        "0 ratios against a, margin 5 %: no ratio to an in-run baseline"
    )


def test_tables_show_runs_side_by_side(compared):
    table = by_title(compared(quiet_pair(), quiet_pair(1.2), quiet_pair()))["Ratios to the in-run baseline"]
    assert table.columns == ["cell", "ratio", "a (baseline)", "b", "c"]
    ((cell, ratio, a, b, c),) = table.rows
    assert (cell, ratio, a) == ("ParallelComp on passkey, 8,192 tokens", "vs_full (full/torch)", "1.500")
    assert re.fullmatch(r"1\.250, ×1\.20\d \[1\.1\d\d, 1\.2\d\d\] regression", b)
    assert re.fullmatch(r"1\.500, ×1\.000 \[0\.9\d\d, 1\.0\d\d\] same", c)


def test_tables_say_what_is_in_no_interval(compared):
    note = by_title(compared(quiet_pair(), quiet_pair()))["Ratios to the in-run baseline"].note
    assert "Intervals are of the repeats of these two runs" in note
    assert note.endswith("A run that lies elsewhere as a whole is in no interval.")


def test_tables_say_why_a_verdict_is_missing(compared):
    table = by_title(compared(quiet_pair(repeats=3), quiet_pair(repeats=3)))["Ratios to the in-run baseline"]
    assert table.rows[0][-1] == "1.500, ×1.000 cannot tell: 3 repeats, an interval needs 4"


def test_tables_leave_out_what_has_nothing_to_show(compared):
    assert list(by_title(compared(quiet_pair(), quiet_pair()))) == [
        "Ratios to the in-run baseline",
        "Scores",
        "Absolute times, ms; not judged",
    ]


def test_tables_show_small_changes_of_exact_bytes_only(compared):
    before = replace(record(), kv_bytes=10 << 20, peak_bytes=100 << 20)
    after = replace(before, kv_bytes=(10 << 20) + 4096, peak_bytes=(100 << 20) + 4096)
    rows = by_title(compared([before], [after]))["Memory"].rows
    assert rows == [[*["ParallelComp on passkey, 8,192 tokens", "kv MiB", "b"], "10.00", "10.00", "+0.0 %"]]


def test_tables_show_scores_times_100_with_what_they_allow(tmp_path):
    one = record()
    folders = [
        write(tmp_path / name, [replace(one, score=sum(s) / 40)], answered(one, s))
        for name, s in (("a", [1] * 40), ("b", [1] * 30 + [0] * 10))
    ]
    (row,) = by_title(compare(folders))["Scores"].rows
    assert row[:5] == ["ParallelComp on passkey, 8,192 tokens", "needle@1", "b", "100.0", "75.0"]
    assert re.fullmatch(r"-25\.0 \[-\d\d\.\d, -1\d\.\d\], p 0\.002, 40 prompts: lower", row[5])


def test_tables_show_endings_and_the_environment_side_by_side(compared):
    gone = stock(status="out_of_memory", reason="12 GiB")
    found = by_title(compared([stock()], [gone], b={"environment": {"torch": "2.14.0"}}))
    assert found["Cells that did not end alike"].rows == [
        ["Full attention on passkey, 8,192 tokens", "ok", "out_of_memory: 12 GiB"]
    ]
    assert ["torch", "2.13.0", "2.14.0"] in found["What else differs"].rows


def test_markdown_is_a_comment_whose_tables_hold(compared):
    text = markdown("title", tables(compared(quiet_pair(), quiet_pair(1.2))))
    assert text.splitlines()[0] == "### title"
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        rows = block.splitlines()
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {rows[0].count("|")}
        assert set(rows[1]) == {"|", "-"}


def test_markdown_shows_strings_and_runs_none(compared):
    hostile = HOSTILE + " | `code` [link](http://x) *x* #1 @someone\nline"
    text = markdown(hostile, tables(compared(quiet_pair(workload=hostile), quiet_pair(1.2, workload=hostile))))
    assert "<" not in text
    assert "\n\nline" not in text
    for character in "`*[]":
        assert re.findall(rf"(?<!\\){re.escape(character)}", text.replace("**", "")) == []
    assert "@someone" not in text


def test_markdown_shows_what_would_not_be_seen():
    text = markdown("\x1b[31mred \u202eabc\nnext", [])
    assert text.removesuffix("\n").isprintable()
    assert "x1b" in text
    assert "u202e" in text
    assert text.endswith("abc next\n")
