import json
import os

import pytest

from pcbench.errors import DataMissing
from pcbench.tasks.scorecards.benchmarks import BENCHMARKS
from pcbench.tasks.scorecards.predictions import read_folder

GOOD = json.dumps({"pred": "Paris", "answers": ["Paris"], "all_classes": None, "length": 7})


def read(folder, name="longbench"):
    return read_folder(folder, name, BENCHMARKS[name])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"pred": "x"', "not JSON: Expecting ',' delimiter at character 12"),
        ("", "not JSON: Expecting value at character 0"),
        ("[1]", "a JSON object, got a list"),
        ('{"answers": ["x"]}', "pred: a string, got nothing"),
        ('{"pred": null, "answers": ["x"]}', "pred: a string, got nothing"),
        ('{"pred": 3, "answers": ["x"]}', "pred: a string, got a number"),
        ('{"pred": "x"}', "answers: strings or numbers, got nothing"),
        ('{"pred": "x", "answers": [{}]}', "answers: strings or numbers, got a list"),
        ('{"pred": "x", "answers": [Infinity]}', "not JSON: Infinity, which is no JSON number"),
        ('{"pred": "x", "answers": -1e999}', "not JSON: -1e999, which no float holds"),
        ('{"pred": "x", "answers": [1, NaN]}', "not JSON: NaN, which is no JSON number"),
        ('{"pred": "x", "answers": %s}' % ("9" * 5000), "not JSON: a number of 5,000 digits"),
        ('{"pred": "\\ud800", "answers": "x"}', "not JSON: half of a letter (a lone surrogate)"),
        ("[" * 200_000, "not JSON: nesting deeper than 50"),
        ('{"pred": "x", "answers": [%s]}' % ('{"a":' * 100_000), "not JSON: nesting deeper than 50"),
        ('{"pred": "x", "answers": ["x"], "all_classes": [1]}', "all_classes: a list of strings or null, got a list"),
    ],
)
def test_read_folder_names_a_malformed_line_and_keeps_the_rest(tmp_path, line, reason):
    (tmp_path / "qasper.jsonl").write_text(f"{GOOD}\n{line}\n{GOOD}\n")
    folder = read(tmp_path)
    assert [p.line for p in folder.datasets["qasper"]] == [1, 3]
    assert [(s.file, s.line, s.reason) for s in folder.skipped_lines] == [("qasper.jsonl", 2, reason)]


def test_read_folder_names_a_line_that_is_not_utf8(tmp_path):
    (tmp_path / "qasper.jsonl").write_bytes(GOOD.encode() + b'\n{"pred": "\xff", "answers": ["x"]}')
    (skipped,) = read(tmp_path).skipped_lines
    assert skipped.line == 2
    assert skipped.reason.startswith("not JSON: byte 0x")


@pytest.mark.parametrize("line", [b"\xff\xfe\x00", b"\x00" * 40, b"{\x00", "\ufeff{".encode(), b"1" * 5000])
def test_read_folder_names_a_line_of_other_bytes(tmp_path, line):
    (tmp_path / "qasper.jsonl").write_bytes(GOOD.encode() + b"\n" + line + b"\n" + GOOD.encode())
    folder = read(tmp_path)
    assert [p.line for p in folder.datasets["qasper"]] == [1, 3]
    assert [(s.line, s.reason.partition(":")[0]) for s in folder.skipped_lines] == [(2, "not JSON")]


def test_read_folder_splits_at_newlines_only(tmp_path):
    line = json.dumps({"pred": "a\u2028b\x85c", "answers": ["x"]}, ensure_ascii=False)
    (tmp_path / "qasper.jsonl").write_text(f"{line}\n{GOOD}", encoding="utf-8")
    assert [p.text for p in read(tmp_path).datasets["qasper"]] == ["a\u2028b\x85c", "Paris"]


def test_read_folder_takes_both_spellings_of_infinitebench(tmp_path):
    lines = [{"prediction": "1", "ground_truth": "1"}, {"pred": "2", "label": ["2"]}]
    (tmp_path / "preds_passkey.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "passkey.jsonl").write_text(GOOD)
    folder = read(tmp_path, "infinitebench")
    assert [(p.text, p.answers) for p in folder.datasets["passkey"]] == [("1", ("1",)), ("2", ("2",))]
    assert len(folder.datasets) == 1


def test_read_folder_says_why_a_file_is_left_out(tmp_path):
    for name, text in {"lcc": GOOD, "lcc_e": GOOD, "trec": "", "qmsum": "[]\n"}.items():
        (tmp_path / f"{name}.jsonl").write_text(text)
    (tmp_path / "result.json").write_text("{}")
    assert read(tmp_path).skipped == {
        "lcc_e": "not a dataset of longbench",
        "qmsum": "no line is a prediction",
        "trec": "the file is empty",
    }


def test_read_folder_names_a_file_that_cannot_be_read_and_keeps_the_rest(tmp_path):
    (tmp_path / "lcc.jsonl").write_text(GOOD)
    (tmp_path / "trec.jsonl").mkdir()
    (tmp_path / "qmsum.jsonl").symlink_to(tmp_path / "gone")
    (tmp_path / "samsum.jsonl").symlink_to("samsum.jsonl")
    folder = read(tmp_path)
    assert list(folder.datasets) == ["lcc"]
    assert folder.skipped == {
        "trec": f"{tmp_path}/trec.jsonl: a plain file, got a folder; name a plain file",
        "qmsum": f"{tmp_path}/qmsum.jsonl: a file, got No such file or directory; name a plain file",
        "samsum": f"{tmp_path}/samsum.jsonl: a file that can be read, got Too many levels of symbolic links; "
        "name a plain file",
    }


def test_read_folder_names_a_file_whose_name_is_not_utf8(tmp_path):
    (tmp_path / "lcc.jsonl").write_text(GOOD)
    (tmp_path / os.fsdecode(b"caf\xe9.jsonl")).write_text(GOOD)
    assert read(tmp_path).skipped == {"caf\ufffd": "not a dataset of longbench"}


def test_read_folder_keeps_the_order_of_the_benchmark(tmp_path):
    for name in ("lcc", "2wikimqa", "qasper"):
        (tmp_path / f"{name}.jsonl").write_text(GOOD)
    assert list(read(tmp_path).datasets) == ["qasper", "2wikimqa", "lcc"]


def test_read_folder_refuses_what_holds_no_prediction(tmp_path):
    with pytest.raises(DataMissing, match=r"nowhere: a folder with <dataset>\.jsonl files, got none; give the folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(DataMissing, match=r"a folder with .* files, got none; give the folder"):
        read(tmp_path / ("x" * 300))
    (tmp_path / "other.jsonl").write_text(GOOD)
    message = r"files of longbench, got 1 \.jsonl files without a line of one \(other: not a dataset of longbench\)"
    with pytest.raises(DataMissing, match=message):
        read(tmp_path)
    (tmp_path / "trec.jsonl").write_text("[" * 200_000)
    with pytest.raises(DataMissing, match=r"got 2 .* \(trec.jsonl line 1: not JSON: nesting deeper than 50\)"):
        read(tmp_path)
