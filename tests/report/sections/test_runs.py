"""What a page of two runs says of them side by side."""

import pytest
from report.made_runs import read_page, record, stock, write_run

from pcbench.report import build


def test_runs_put_the_worst_change_first(tmp_path):
    faster = {"speedup_vs_full": 2.0, "speedup_vs_full_ci_low": 1.9, "speedup_vs_full_ci_high": 2.1, "baseline": "full"}
    before = [stock(run="a"), record(run="a", **faster), record(run="a", **faster, context_tokens=2048)]
    after = [
        stock(run="b"),
        record(run="b", **faster),
        record(run="b", **faster | {"speedup_vs_full": 1.5}, context_tokens=2048),
    ]
    folders = [write_run(tmp_path / name, records) for name, records in (("a", before), ("b", after))]
    page = read_page(build(folders, tmp_path / "both.html"))
    first, second = page.tables["By speed-up over full attention (×)"]
    assert (first["cell"], first["a"], first["b"]) == ("ParallelComp on passkey, 2,048 tokens", "2.000", "1.500")
    assert first["last over first (%)"] == "−25.0"
    assert second["last over first (%)"] == "0.0"


def test_runs_say_what_differs_between_their_machines(tmp_path):
    machines = [{"cpu": name, "packages": {"numpy": "2.4"}} for name in ("one", "two")]
    folders = [write_run(tmp_path / m["cpu"], [record(run=m["cpu"])], environment=m) for m in machines]
    page = read_page(build(folders, tmp_path / "both.html"))
    assert page.tables["What differs between the runs"] == [{"": "environment.cpu", "one": "one", "two": "two"}]


@pytest.mark.parametrize("name", ["scorer", "task"])
def test_runs_compare_no_scores_of_different_scorers_or_tasks(tmp_path, name):
    folders = [write_run(tmp_path / run, [record(run=run, **{name: f"needle@{run}"})]) for run in ("1", "2")]
    tables = read_page(build(folders, tmp_path / "both.html")).tables
    assert "By score (×100)" not in tables
    assert "By p50 (ms)" in tables
