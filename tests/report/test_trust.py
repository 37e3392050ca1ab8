"""The trust box names what a careful reader would ask for."""

import pytest
from report.made_runs import endings, record, stock, suite_records, write_run

from pcbench.report.results import Results
from pcbench.report.runs import read_runs
from pcbench.report.trust import trust


@pytest.fixture
def box(tmp_path):
    def make(*records, **manifest):
        return trust(Results(read_runs([write_run(tmp_path / "run", records, **manifest)])))

    return make


def said(box, topic: str) -> list[tuple[str, str]]:
    return [(finding.level, finding.text) for finding in box.findings if finding.topic == topic]


def test_trust_names_the_worst_op_and_the_failures(box):
    good, bad = sorted(said(box(*suite_records(), *endings()), "parity"), reverse=True)
    assert good[0] == "good"
    assert "uses 0.3100 of its bound" in good[1]
    assert bad[0] == "bad"
    assert bad[1].startswith("1 cell failed")


def test_trust_withholds_ok_cells_without_parity(box):
    ((level, text),) = said(box(record(parity_err=None, parity_bound=None)), "withheld")
    assert level == "bad"
    assert "parallel_comp/cpu @ passkey 8,192" in text


def test_trust_lists_cells_that_are_not_ok_with_reasons(box):
    table = box(*suite_records(), *endings()).failures
    reasons = [row[-1] for row in table.rows]
    assert reasons == [r.reason for r in sorted(endings(), key=lambda r: ("full", "reference", "cpu", "hip").index(
        "full" if r.method == "full" else r.backend))]  # fmt: skip


def test_trust_lists_each_warning_once_with_its_cells(box):
    table = box(record(warnings=["a", "b"]), record(warnings=["b"], seed=1)).warnings
    assert [row[:2] for row in table.rows] == [["a", "1"], ["b", "2"]]


@pytest.mark.parametrize(
    ("commit", "dirty", "level", "text"),
    [
        ("0123456789abcdef", False, "good", "0123456789ab, no uncommitted changes."),
        ("0123456789abcdef", True, "note", "uncommitted changes"),
        (None, None, "note", "no commit"),
    ],
)
def test_trust_says_which_code_ran(box, commit, dirty, level, text):
    ((found, sentence),) = said(box(record(commit=commit, dirty=dirty)), "commit")
    assert found == level
    assert text in sentence


def test_trust_says_that_few_repeats_have_no_interval(box):
    assert said(box(record(repeats=3)), "repeats") == [
        ("note", "Repeats a timed cell: 3. Under 5 there are no intervals, and no difference is claimed.")
    ]
    assert said(box(record(repeats=7)), "repeats") == [("good", "Repeats a timed cell: 7, interleaved.")]


def test_trust_measures_noise(box):
    quiet, noisy = record(ms_p10=99.0, ms_p50=100.0, ms_p90=101.0), stock(ms_p10=90.0, ms_p50=100.0, ms_p90=140.0)
    ((level, text),) = said(box(quiet, noisy), "noise")
    assert level == "bad"
    assert "Above 25.0 % in 1 cell" in text
    assert "26.0 % in the median cell" in text
    assert "50.0 % in the noisiest (full/torch" in text


def test_trust_does_not_warn_of_little_noise(box):
    ((level, text),) = said(box(record(ms_p10=99.0, ms_p50=100.0, ms_p90=101.0)), "noise")
    assert level == "note"
    assert "Above" not in text


def test_trust_sees_missing_cells_and_mixed_records(box):
    found = box(record(), record(seed=1, commit="other", torch="2.14.0"), cells=["a", "b", "c"])
    assert said(found, "coverage")[0][1].startswith("2 of 3 planned cells")
    assert said(found, "mixed") == [("bad", "Records of one run differ in commit, torch.")]
