"""The leaderboard compares nothing across machines, names scorers, and shows no speed without parity."""

import pytest
from report.browser import NAMES, framed, probe
from report.made_accuracy import accuracy_records
from report.made_kernels import kernel_records
from report.made_losses import loss_records
from report.made_methods import method_records
from report.made_runs import FULL, HOSTILE, endings, read_page, record, stock, suite_records, write_run
from report.test_browser import CONTRAST

from pcbench.cli import main
from pcbench.errors import DataMissing
from pcbench.report import build_leaderboard

SPEEDS = ("speed-up over full (×)", "decoding speed-up (×)", "prefill (ms)", "decoding (ms/token)")
FAST = {"speedup_vs_full": 1.75, "speedup_vs_full_ci_low": 1.69, "speedup_vs_full_ci_high": 1.8}
CPU = "Example CPU, x86_64 AVX2, 2 threads"


def page(tmp_path, *folders):
    return read_page(build_leaderboard(folders, tmp_path / "page.html"))


def test_machines_and_models_have_tables_of_their_own(tmp_path):
    here = write_run(tmp_path / "a", [stock(run="a"), record(run="a", **FULL | FAST)])
    more = write_run(tmp_path / "b", [stock(run="b", model="other"), stock(run="b", runtime="4 threads")])
    gpu = {"device": "cuda", "gpu": "Example GPU", "arch": "sm_90", "runtime": "driver 1"}
    there = write_run(tmp_path / "c", [record(run="c", backend="cuda", **FULL | FAST | gpu)])
    found = page(tmp_path, here, more, there)
    assert {name: len(rows) for name, rows in found.tables.items()} == {
        f"prefill: smollm2-135m on {CPU}": 2,
        f"prefill: other on {CPU}": 1,
        "prefill: smollm2-135m on Example CPU, x86_64 AVX2, 4 threads": 1,
        "prefill: smollm2-135m on Example GPU, sm_90, driver 1": 1,
    }
    assert "5 cells of 3 runs on 3 machines with 2 models. Compare the rows of one table" in " ".join(
        found.text.split()
    )
    full, ours = found.tables[f"prefill: smollm2-135m on {CPU}"]
    assert (full["parity (error / bound)"], full["speed-up over full (×)"]) == ("stock code", "")
    assert full["prefill (ms)"] == "38,212 (no interval)"
    assert ours["speed-up over full (×)"] == "1.750 [1.690, 1.800]"
    assert ours["needle@1 (×100)"] == "80.0 [49.0, 94.3]"


def test_a_cell_without_a_passed_parity_check_has_no_speed(tmp_path):
    unchecked = record(workload="unchecked", parity_err=None, parity_bound=None, **FULL | FAST)
    failed = record(workload="failed", parity_err=2e-6, **FULL | FAST)
    alone = record(workload="alone", backend="torch", method="of_torch_alone", **FULL | FAST)
    passed = record(workload="passed", **FULL | FAST)
    (rows,) = page(tmp_path, write_run(tmp_path / "a", [unchecked, failed, alone, passed, *endings()])).tables.values()
    shown = {row["workload"]: [row[name] for name in SPEEDS if name in row] for row in rows if row["status"] == "ok"}
    for name in ("unchecked", "failed", "alone"):
        assert set(shown[name]) == {""}
    assert [text.split()[0] for text in shown["passed"]] == ["1.750", "21,893", "35.50"]
    ended = [row for row in rows if row["status"] != "ok"]
    assert {row["status"] for row in ended} == {"out_of_memory", "parity_failed", "error", "unsupported"}
    assert {row[name] for row in ended for name in SPEEDS if name in row} == {""}


def test_scores_of_different_scorers_stand_in_columns_that_name_them(tmp_path):
    other = stock(scorer="f1@2", workload="qa", score=0.25, score_ci_low=None, score_ci_high=None)
    less = record(score=0.75, score_vs_full=-0.05, score_vs_full_ci_low=-0.3, score_vs_full_ci_high=0.2)
    (rows,) = page(tmp_path, write_run(tmp_path / "a", [stock(), less, other])).tables.values()
    names = [name for name in rows[0] if "×100" in name or "points" in name]
    assert names == ["f1@2 (×100)", "needle@1 (×100)", "needle@1 minus full's (points)"]
    assert [[row[name] for name in names] for row in rows] == [
        ["", "80.0 [49.0, 94.3]", ""],
        ["", "75.0 [49.0, 94.3]", "−5.00 [−30.00, +20.00]"],
        ["25.0 (no interval)", "", ""],
    ]


def test_equal_runs_give_equal_pages_and_a_run_without_records_is_refused(tmp_path, capsys):
    run = write_run(tmp_path / "a", suite_records())
    first = build_leaderboard([run], tmp_path / "page.html").read_bytes()
    with pytest.raises(SystemExit) as ended:
        main(["leaderboard", str(run), "--out", str(tmp_path / "again.html")])
    assert not ended.value.code
    assert capsys.readouterr().out == f"{tmp_path / 'again.html'}\n"
    assert (tmp_path / "again.html").read_bytes() == first
    with pytest.raises(DataMissing, match="leaderboard: runs with records, got none; go on with them by --resume"):
        build_leaderboard([write_run(tmp_path / "b", [])], tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Every kind of record, and names that are markup."""
    root = tmp_path_factory.mktemp("board")
    made = {"kernels": kernel_records(), "accuracy": accuracy_records(), "methods": method_records()}
    made |= {"losses": loss_records(), "suite": suite_records(), "ended": endings(model=HOSTILE, method="m" * 200)}
    folders = [write_run(root / name, records) for name, records in made.items()]
    return build_leaderboard(folders, root / "board.html")


FIRST = """[doc.documentElement.scrollWidth, [".sentence", "table"].map((what) =>
  [doc.querySelector(what).getBoundingClientRect().top, doc.querySelector(what).textContent.length > 0]),
  [...doc.querySelectorAll(".scroll")].every((r) => {
    r.scrollLeft = 500;
    const cell = r.querySelector("tbody tr").cells[0].getBoundingClientRect();
    return Math.abs(cell.left - r.getBoundingClientRect().left) <= 1 && cell.width <= 150;
  })]"""


@pytest.mark.needs(*NAMES)
def test_a_phone_shows_the_first_table_beside_labels_that_stay(large):
    width, parts, stays = framed(large, 390, FIRST)
    assert width == 390
    assert all(top < 844 and filled for top, filled in parts)
    assert stays


ORDER = """(() => {
  const place = (t) => [...t.tHead.rows[0].cells].findIndex((h) => h.textContent === "speed-up over full (×)");
  const table = [...document.querySelectorAll("table")].find((t) => place(t) >= 0 && t.tBodies[0].rows.length > 10);
  const at = place(table);
  const column = () => [...table.tBodies[0].rows].map((row) => row.cells[at].textContent);
  table.tHead.rows[0].cells[at].querySelector("button").click();
  const up = column();
  const field = table.parentNode.previousElementSibling.querySelector("input");
  field.value = "snapkv";
  field.dispatchEvent(new Event("input"));
  return [up, [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.textContent)];
})()"""


@pytest.mark.needs(*NAMES)
def test_a_click_sorts_and_a_word_filters(large):
    up, rows = probe(large, ORDER)
    numbers = [float(text.split()[0].replace(",", "")) for text in up if text]
    assert numbers == [0.9651, 1.316, 1.745]
    assert up[len(numbers) :] == [""] * (len(up) - len(numbers))
    assert 0 < len(rows) < len(up)
    assert all("snapkv" in text.lower() for text in rows)


@pytest.mark.needs(*NAMES)
@pytest.mark.parametrize("scheme", [0, 1])
def test_every_text_meets_contrast_and_names_stay_text(large, scheme):
    low, images = probe(
        large,
        f'[{CONTRAST}, document.querySelectorAll("img").length]',
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    assert low == {}
    assert images == 0
