import json
import subprocess
import sys

import pytest

from pcbench.cli import main


@pytest.fixture
def folder(tmp_path):
    """A folder of LongBench predictions, one line of them broken."""
    pairs = [("x", "x"), ("y", "x"), ("z", "z")]
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
    assert (card["datasets"], card["n"]) == ({"qasper": 66.67}, {"qasper": 3})
    _, out, _ = score(capsys, folder, "--benchmark", "longbench", "--scorer", "all", "--json")
    assert json.loads(out)[0] == card


def test_score_prints_scores_bad_lines_and_whether_a_difference_is_one(folder, capsys):
    code, out, _ = score(capsys, folder, "--benchmark", "longbench", "--against", folder)
    assert code == 0
    row = next(line.split() for line in out.splitlines() if line.startswith("qasper"))
    assert row[:3] == ["qasper", "3", "66.67"]
    assert "no significant difference" in " ".join(out.split())
    assert "skipped qasper.jsonl line 2: not JSON" in out


def test_score_says_why_a_dataset_has_no_difference(folder, tmp_path, capsys):
    (tmp_path / "b").mkdir()
    (folder / "lcc.jsonl").write_text('{"pred": "x", "answers": ["x"]}')
    (tmp_path / "b" / "qasper.jsonl").write_text('{"pred": "x", "answers": ["x"]}\n{"pred": 3}')
    _, out, _ = score(capsys, folder, "--benchmark", "longbench", "--against", tmp_path / "b")
    assert "difference of longbench-official+indel: over 1 datasets" in out
    assert "no difference for lcc: not in the other folder" in out
    assert "skipped qasper.jsonl line 2 of --against: pred: a string, got a number" in out


def test_score_errors_are_one_line_and_exit_2(folder, tmp_path, capsys):
    code, out, err = score(capsys, tmp_path, "--benchmark", "longbench")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith(f"{tmp_path}: <dataset>.jsonl files of longbench, got 0")
    assert score(capsys, folder, "--benchmark", "longbench", "--scorer", "indel")[0] == 2


def test_score_imports_no_torch(folder):
    code = (
        "import sys\nfrom pcbench.cli import main\n"
        f"try: main(['score', {str(folder)!r}, '--benchmark', 'longbench', '--scorer', 'all'])\n"
        "except SystemExit as ended: sys.exit(ended.code or (9 if 'torch' in sys.modules else 0))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
