"""The page of a folder's runs joins what may be compared, and nothing else."""

import re

import pytest
from report.made_runs import FULL, read_page, record, stock, write_run

from pcbench.cli import main
from pcbench.errors import ConfigError, DataMissing
from pcbench.report import build_history

CAPTION = "Speed-up over full attention, one row a cell and run"
MACHINE = {
    "cpu": "Example CPU",
    "arch": "AVX2",
    "runtime": "2 threads",
    "torch": "2.13.0",
    "commit": "0123456789abcdef",
}


def measured(folder, day, ratio, *, commit="0123456789abcdef", dirty=False, torch="2.13.0", **changes):
    """A run of full attention and one cell beside it."""
    found = {"speedup_vs_full": ratio, "speedup_vs_full_ci_low": ratio - 0.1, "speedup_vs_full_ci_high": ratio + 0.1}
    records = [stock(run=folder.name), record(run=folder.name, **FULL | found | changes)]
    environment = MACHINE | {"commit": commit, "dirty": dirty, "torch": torch}
    return write_run(folder, records, created_at=f"2026-03-{day:02}T10:00:00+0000", environment=environment)


def page(folder):
    return read_page(build_history(folder))


def test_runs_of_a_cell_on_a_machine_are_one_line_in_the_order_of_their_days(tmp_path):
    measured(tmp_path / "b", 2, 1.5, commit="b" * 40, dirty=True)
    measured(tmp_path / "deep" / "a", 1, 1.7, commit="a" * 40)
    found = page(tmp_path)
    rows = found.tables[CAPTION]
    assert [(row["commit"], row["ratio (×)"], row["95 % interval"]) for row in rows] == [
        ("aaaaaaaaa", "1.700", "[1.600, 1.800]"),
        ("bbbbbbbbb+", "1.500", "[1.400, 1.600]"),
    ]
    assert {row["cell"] for row in rows} == {"ParallelComp, 8,192 tokens"}
    titles = [f"prefill on Example CPU, smollm2-135m, 2026-03-{day}" for day in ("01", "02")]
    assert [row["run"] for row in rows] == titles
    runs = found.tables["Runs in the order in which they were measured"]
    assert [(row["run"], row["name"]) for row in runs] == list(zip(titles, "ab", strict=True))
    assert found.html.count("<figure>") == 1
    text = " ".join(found.text.split())
    assert "2 runs at 2 commits on 1 machine, the first of 2026-03-01 10:00, the last of 2026-03-02 10:00." in text
    assert "ParallelComp, 8,192 tokens 1.70× at aaaaaaaaa and 1.50× at bbbbbbbbb+" in text


@pytest.mark.parametrize(
    "other",
    [
        {"torch": "2.14.0"},
        {"method_config": {"keep": 2}},
        {"baseline": "full/torch/sdpa-math"},
        {"context_tokens": 2048},
    ],
)
def test_what_differs_has_a_line_of_its_own_and_one_run_is_not_drawn(tmp_path, other):
    measured(tmp_path / "a", 1, 1.7)
    measured(tmp_path / "b", 2, 1.5, **other)
    found = page(tmp_path)
    assert len(found.tables[CAPTION]) == 2
    assert "<figure>" not in found.html
    assert "there is nothing to draw" in found.text


def test_a_cell_without_parity_has_no_ratio_here_either(tmp_path):
    for day, name in enumerate("ab", 1):
        measured(tmp_path / name, day, 1.5, parity_err=None, parity_bound=None)
    found = page(tmp_path)
    assert CAPTION not in found.tables
    assert "No cell of them has a ratio to a baseline." in found.text


def test_equal_runs_give_equal_pages(tmp_path):
    for day, name in enumerate("ab", 1):
        measured(tmp_path / name, day, 1.5)
    assert build_history(tmp_path).read_bytes() == build_history(tmp_path, tmp_path / "again.html").read_bytes()


def test_a_folder_without_runs_and_both_or_neither_are_refused(tmp_path, capsys):
    with pytest.raises(DataMissing, match=r"--history: a folder of runs, got .* without one; give the folder above"):
        build_history(tmp_path)
    run = measured(tmp_path / "a", 1, 1.5)
    for arguments, got in (([str(run), "--history", str(tmp_path)], "both"), ([], "neither")):
        with pytest.raises(SystemExit) as ended:
            main(["report", *arguments])
        assert ended.value.code == 2
        assert capsys.readouterr().err == f"report: folders of runs or --history DIR, got {got}; give one\n"
    (run / "records.jsonl").write_text("{\n{}\n")
    with pytest.raises(ConfigError, match=re.escape("a/records.jsonl:1: JSON")):
        build_history(tmp_path)
