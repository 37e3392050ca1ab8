"""`pcbench data` and what `pcbench list tasks` says of files."""

import json
import subprocess
import sys

import pytest

from pcbench.cli import main
from pcbench.registry import task_tables


@pytest.fixture
def pcbench(capsys, monkeypatch, tmp_path):
    """Runs arguments with an empty folder of official files; exit code, stdout, stderr."""
    monkeypatch.setenv("PCBENCH_DATA", str(tmp_path))

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err.strip()

    return run


def test_data_fetch_refuses_files_without_a_hash_on_one_line(pcbench, tmp_path):
    code, out, err = pcbench("data", "fetch", "infinitebench")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("data fetch infinitebench: a known sha256 of https://")
    assert "--trust-first-use" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("/dev/null/x", "data fetch gsm8k: a folder that takes files, got [Errno 20] Not a directory: '/dev/null/x'; "),
        ("{", "{folder}/trusted.json: JSON, got "),
        ("[]", "{folder}/trusted.json: the hashes that were recorded, in JSON, got Input should be "),
        ('{"a": 1}', "{folder}/trusted.json: the hashes that were recorded, in JSON, got Input should be "),
    ],
)
def test_data_fetch_says_on_one_line_what_is_wrong_with_the_folder(pcbench, tmp_path, monkeypatch, folder, message):
    if folder.startswith("/"):
        monkeypatch.setenv("PCBENCH_DATA", folder)
    else:
        (tmp_path / "trusted.json").write_text(folder)
    code, _, err = pcbench("data", "fetch", "gsm8k", "--trust-first-use")
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.startswith(message.replace("{folder}", str(tmp_path)))


def test_data_fetch_names_the_nearest(pcbench):
    assert pcbench("data", "fetch", "infinitbench")[2].endswith('did you mean "infinitebench"?')


def test_data_list_says_what_goes_where(pcbench, tmp_path):
    code, out, _ = pcbench("data", "list")
    assert not code
    assert str(tmp_path) in out
    listed = json.loads(pcbench("data", "list", "--json")[1])
    assert listed["longbench"] == "LongBench and LongBench-E: records, prompts, limits"
    assert listed["infinitebench"].endswith(" (12 of 13 files have no known sha256: --trust-first-use)")
    assert {table["fetch"] for table in task_tables().values() if table.get("fetch")} == set(listed)


def test_list_tasks_says_whether_files_are_there(pcbench, tmp_path):
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k/test.json").write_text("[]")
    listed = json.loads(pcbench("list", "tasks", "--json")[1])
    assert listed["gsm8k"].endswith(" (files are there)")
    assert listed["longbench-e/qasper"].endswith(" (no files; pcbench data fetch longbench)")
    assert listed["ruler/qa_1"].endswith(" (no files)")
    assert "files" not in listed["passkey"]


def test_listing_tasks_and_sources_imports_no_torch():
    code = "import sys, pcbench.tasks, pcbench.tasks.official.fetch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
