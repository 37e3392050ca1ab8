import json
import subprocess
import sys

import pytest

from pcbench.cli import main


@pytest.fixture
def folder(tmp_path):
    """A folder of LongBench predictions, one line of them broken."""
    pairs = [("x", "x"), ("y", "x"), ("z", "z")] * 2
    lines = [json.dumps({"pred": pred, "answers": [answer]}) for pred, answer in pairs]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "qasper.jsonl").write_text("\n".join([lines[0], "{", *lines[1:]]))
    return tmp_path / "a"


def score(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["score", *map(str, arguments)])
    printed = capsys.readouterr()
    return ended.value.code or 0, printed.out, printed.err


def test_score_json_is_one_object_and_a_list_for_all_scorers(folder, capsys):
    code, out, _ = score(capsys, folder, "--benchmark", "longbench", "--json")
    assert code == 0
    card = json.loads(out)
    assert (card["datasets"], card["n"]) == ({"qasper": 66.67}, {"qasper": 6})
    _, out, _ = score(capsys, folder, "--benchmark", "longbench", "--scorer", "all", "--json")
    assert json.loads(out)[0] == card


def test_score_prints_scores_bad_lines_and_whether_a_difference_is_one(folder, capsys):
    code, out, _ = score(capsys, folder, "--benchmark", "longbench", "--against", folder)
    assert code == 0
    row = next(line.split() for line in out.splitlines() if line.startswith("qasper"))
    assert row[:3] == ["qasper", "6", "66.67"]
    assert "no significant difference" in " ".join(out.split())
    assert "skipped qasper.jsonl line 2: not JSON" in out


def store(folder, *predictions):
    folder.mkdir()
    lines = (json.dumps({"pred": pred, "answers": ["x"]}) for pred in predictions)
    (folder / "qasper.jsonl").write_text("\n".join(lines))
    return folder


def test_score_claims_no_difference_where_few_lines_say_so(tmp_path, capsys):
    right = store(tmp_path / "right", *["x"] * 200)
    _, out, _ = score(capsys, right, "--benchmark", "longbench", "--against", store(tmp_path / "one", ""))
    assert out.count("+100.00 [-58.69, +100.00] cannot tell, needs n ≥ 6") == 2
    assert "no partner for qasper.jsonl lines 2–200 (199): no score in the other folder\n" in out


@pytest.mark.parametrize(
    ("lines", "low", "words"), [(5, "+13.10", "cannot tell, needs n ≥ 6"), (6, "+21.93", "higher")]
)
def test_score_claims_a_difference_where_some_outcome_could_be_one(tmp_path, capsys, lines, low, words):
    right, wrong = store(tmp_path / "right", *["x"] * lines), store(tmp_path / "wrong", *[""] * lines)
    _, out, _ = score(capsys, right, "--benchmark", "longbench", "--against", wrong)
    assert out.count(f"+100.00 [{low}, +100.00] {words}") == 2


def test_score_names_lines_and_files_that_nobody_can_read(tmp_path, capsys):
    store(tmp_path / "a", "x", "x")
    (tmp_path / "a/lcc.jsonl").write_text("[" * 200_000 + '\n{"pred": "x", "answers": ["x"]}\n[1]\n\n[2]\n[3]')
    (tmp_path / "a/trec.jsonl").mkdir()
    code, out, err = score(capsys, tmp_path / "a", "--benchmark", "longbench")
    assert (code, err) == (0, "")
    assert "skipped lcc.jsonl line 1: not JSON: nesting deeper than 50\n" in out
    assert "skipped lcc.jsonl lines 3, 5–6 (3): a JSON object, got a list\n" in out
    assert "trec.jsonl: a plain file, got a folder; name a plain file\n" in out
    assert [line.split()[:3] for line in out.splitlines() if line.startswith("lcc")] == [["lcc", "1", "100.00"]]


def test_score_says_why_a_dataset_has_no_difference(folder, tmp_path, capsys):
    (tmp_path / "b").mkdir()
    (folder / "lcc.jsonl").write_text('{"pred": "x", "answers": ["x"]}')
    (tmp_path / "b" / "qasper.jsonl").write_text('{"pred": "x", "answers": ["x"]}\n{"pred": 3}')
    _, out, _ = score(capsys, folder, "--benchmark", "longbench", "--against", tmp_path / "b")
    assert "difference of longbench-official+indel: over 1 dataset" in out
    assert "no difference for lcc: not in the other folder" in out
    assert "skipped qasper.jsonl line 2 of --against: pred: a string, got a number" in out


def test_score_errors_are_one_line_and_exit_2(folder, tmp_path, capsys):
    code, out, err = score(capsys, tmp_path, "--benchmark", "longbench")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith(f"{tmp_path}: <dataset>.jsonl or <dataset>/<method>.json files of longbench, got 0")
    assert score(capsys, folder, "--benchmark", "longbench", "--scorer", "indel")[0] == 2


def test_score_imports_no_torch(folder):
    code = (
        "import sys\nfrom pcbench.cli import main\n"
        f"try: main(['score', {str(folder)!r}, '--benchmark', 'longbench', '--scorer', 'all'])\n"
        "except SystemExit as ended: sys.exit(ended.code or (9 if 'torch' in sys.modules else 0))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
