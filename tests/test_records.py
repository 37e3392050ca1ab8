import csv
import json
import re
import shutil
from dataclasses import fields, replace

import pytest

from pcbench.config import bundled
from pcbench.errors import ConfigError, DataMissing, FolderLost
from pcbench.records import FORMULA, JSONL_ONLY, RunFolder, read_records
from pcbench.types import Cell, Record, Sample


def record(cell="c1", **changes):
    needed = dict(run="r", suite="s", kind="prefill", group="g1", cell=cell, model="m", method="full")
    needed |= dict(backend="torch", device="cpu", dtype="float32", seed=0, workload="w")
    return Record(**(needed | changes))


def sample(cell="c1"):
    return Sample(
        cell=cell, task="t", id="i", prediction="p", answers=["a"], score=1.0, scorer="needle@1", prompt_sha256="0"
    )


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "run")
    made.create()
    return made


def test_records_survive_the_disk(folder):
    rows = [record(ms_p50=1.5, samples_ms=[1.0, 2.0], parity_ops={"x": {"err": 0.0, "bound": 1.0}}), record("c2")]
    folder.records.append(rows)
    assert folder.records.read() == rows


def test_read_ignores_a_line_that_was_cut_off(folder):
    folder.records.append([record(), record("c2")])
    text = folder.records.path.read_text()
    folder.records.path.write_text(text[:-20])
    assert [r.cell for r in folder.records.read()] == ["c1"]


def test_read_refuses_an_unknown_field_by_name(folder):
    folder.records.append([record()])
    data = json.loads(folder.records.path.read_text()) | {"ms_p5": 1}
    folder.records.path.write_text(json.dumps(data) + "\n")
    with pytest.raises(ConfigError, match=r'records.jsonl:1: unknown key "ms_p5"; did you mean "ms_p50"'):
        folder.records.read()


def test_read_refuses_a_wrong_type_and_a_broken_line(folder):
    folder.records.append([record()])
    data = json.loads(folder.records.path.read_text()) | {"status": "fine"}
    folder.records.path.write_text(json.dumps(data) + "\n")
    with pytest.raises(ConfigError, match=r"records.jsonl:1: status"):
        folder.records.read()
    folder.records.path.write_text("{nonsense\n")
    with pytest.raises(ConfigError, match=r"records.jsonl:1: JSON, got Expecting property name"):
        folder.records.read()


@pytest.mark.parametrize(
    ("line", "got"),
    [
        *((line, "a JSON object, got ") for line in (b"5", b"null", b'"c1"', b"[1]")),
        (b'{"cell": "\xff"}', "text in UTF-8, got byte 0xff at 10; "),
        (b"\xff\xfe", "text in UTF-8, got UTF-16; "),
        (b'{"a":' * 5000, "JSON, got nesting deeper than 50; "),
    ],
)
def test_read_refuses_a_complete_line_that_is_no_object_of_text(folder, line, got):
    folder.records.append([record()])
    with folder.records.path.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(ConfigError, match=f"^{folder.records.path}:2: {got}"):
        folder.records.read()


MADE = {"ms_p50": 2.0, "samples_ms": [1.0, 2.0], "score": 0.5, "score_ci_low": 0.25, "score_ci_high": 0.75}
MADE |= {"parity_ops": {"x": {"err": 0.5, "bound": 1.0}}, "repeats": 2, "chunks": 3, "speedup_vs_full": 2.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 999}, "schema 1, got 999; read it with the pcbench that wrote it"),
        ({"schema": True}, "schema 1, got True; read it with the pcbench that wrote it"),
        ({"samples_ms": [1.0, float("nan")]}, "JSON, got NaN, which is no JSON number; was the file edited?"),
        ({"samples_ms": [1.0, 0.0]}, "samples_ms[1]: input should be greater than or equal to 0.000001, got 0.0; "),
        ({"samples_ms": [-1.0]}, "samples_ms[0]: input should be greater than or equal to 0.000001, got -1.0; "),
        ({"samples_ms": []}, "samples_ms: list should have at least 1 item"),
        ({"samples_ms": ["1"]}, "samples_ms[0]: input should be a valid number, got '1'; "),
        (
            {"samples_ms": [1e300]},
            "samples_ms[0]: input should be less than or equal to 1000000000000000000, got 1e+300",
        ),
        ({"ms_p50": 0}, "ms_p50: input should be greater than or equal to 0.000001, got 0; "),
        ({"speedup_vs_full": 0.0}, "speedup_vs_full: input should be greater than or equal to 0.000001, got 0.0; "),
        ({"chunks": -1}, "chunks: input should be greater than or equal to 0, got -1; "),
        ({"chunks": 1.5}, "chunks: input should be a valid integer, got 1.5; "),
        ({"chunks": "3"}, "chunks: input should be a valid integer, got '3'; "),
        ({"repeats": 10**100}, "repeats: input should be less than or equal to 1000000000000000000, got 1000"),
        ({"score": 1.5}, "score: input should be less than or equal to 1, got 1.5; "),
        ({"score_ci_low": 0.8}, "score_ci_low: at most score_ci_high (0.75), got 0.8; was the file edited?"),
        ({"ms_p10": 3.0}, "ms_p10: at most ms_p50 (2), got 3; was the file edited?"),
        (
            {"parity_ops": {"x": {"err": 0.5}}},
            "parity_ops.x.bound: a value is required, got none; was the file edited?",
        ),
        ({"parity_ops": {"x": {"err": -1.0, "bound": 1.0}}}, "parity_ops.x.err: input should be greater than or equal"),
        ({"status": "fine"}, "status: input should be 'ok', 'parity_failed', "),
        ({"model": None}, "model: input should be a valid string, got None; "),
        ({"cell": "\ud800"}, "JSON, got half of a letter (a lone surrogate); "),
    ],
)
def test_read_refuses_what_no_run_measures(folder, changes, message):
    folder.records.append([record(**MADE)])
    assert folder.records.read() == [record(**MADE)]
    data = json.loads(folder.records.path.read_text()) | changes
    folder.records.path.write_text(json.dumps(data) + "\n")
    with pytest.raises(ConfigError, match=f"^{folder.records.path}:1: {re.escape(message)}"):
        folder.records.read()


@pytest.mark.parametrize("name", ["records.jsonl", "samples.jsonl", "manifest.json"])
def test_a_folder_in_place_of_a_file_is_refused(folder, name):
    folder.write_manifest({"schema": 1, "run": "r"})
    (folder.path / name).unlink(missing_ok=True)
    (folder.path / name).mkdir()
    with pytest.raises(ConfigError, match=f"{name}: a plain file, got a folder; "):
        read_records(folder.path), folder.samples.read(), folder.manifest


def test_read_records_takes_the_last_line_of_a_cell(folder):
    folder.records.append([record(ms_p50=1.0), record("c2"), record(ms_p50=2.0)])
    assert [(r.cell, r.ms_p50) for r in read_records(folder.path)] == [("c1", 2.0), ("c2", None)]


def test_keep_groups_drops_records_and_samples_of_the_others(folder):
    folder.records.append([record("c1", group="g1"), record("c2", group="g2")])
    folder.samples.append([sample("c1"), sample("c2"), sample("c3")])
    folder.keep_groups({"g2"})
    assert [r.cell for r in folder.records.read()] == ["c2"]
    assert [s.cell for s in folder.samples.read()] == ["c2"]


def test_csv_holds_every_field_but_the_long_ones(folder):
    folder.records.append([record(warnings=["a, b"], method_config={"keep": 1}, samples_ms=[1.0])])
    folder.write_csv()
    with (folder.path / "records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [f.name for f in fields(Record) if f.name not in JSONL_ONLY]
    assert json.loads(rows[0]["warnings"]) == ["a, b"]
    assert json.loads(rows[0]["method_config"]) == {"keep": 1}
    assert rows[0]["ms_p50"] == ""


@pytest.mark.parametrize("text", [f"{mark}cmd|' /C calc'!A0" for mark in "=+-@\t\r\n＝＋－＠"])
def test_csv_runs_in_no_spreadsheet(folder, text):
    folder.records.append([record(workload=text, score_vs_full=-0.5, model="a=1", reason="-")])
    folder.write_csv()
    with (folder.path / "records.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["workload"] == f"'{text}"
    assert (row["score_vs_full"], row["model"], row["reason"]) == ("-0.5", "a=1", "'-")


def test_the_csv_of_a_page_has_the_same_rule():
    script = (bundled("templates") / "report.js").read_text(encoding="utf-8")
    (letters,) = re.findall(r"/\^\[(.*)\]/\.test\(plain\)", script)
    assert tuple(letters.replace("\\-", "-").encode().decode("unicode_escape").encode("latin-1").decode()) == FORMULA


def test_records_never_hold_nan(folder):
    with pytest.raises(ValueError, match="Out of range float"):
        folder.records.append([record(ms_p50=float("nan"))])
    assert folder.records.read() == []


def test_manifest_of_another_folder_is_missing(tmp_path):
    with pytest.raises(DataMissing, match=r"manifest.json"):
        _ = RunFolder(tmp_path).manifest


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "JSON, got Expecting property name"),
        (b"", "JSON, got Expecting value at character 0; was the file edited?"),
        (b"[]", r"a JSON object, got \[\]; was the file edited?"),
        (b"\xff", "text in UTF-8, got byte 0xff at 0; save it as UTF-8"),
        (b'{"run": "r"}', "schema 1, got None; read it with the pcbench that wrote it"),
        (b'{"schema": 999, "run": "r"}', "schema 1, got 999; read it with the pcbench that wrote it"),
        (b'{"schema": 1}', "run: a value is required, got none; was the file edited?"),
        (b'{"schema": 1, "run": "r", "cells": ["a", 5]}', r"cells\[1\]: input should be a valid string, got 5; "),
        (
            b'{"schema": 1, "run": "r", "environment": null}',
            "environment: input should be a valid dictionary, got None",
        ),
        (
            b'{"schema": 1, "run": "r", "environment": {"ranks": 1e9}}',
            "environment.ranks: input should be a valid integer",
        ),
        (b'{"schema": 1, "run": "r", "environment": {"ranks": 0}}', "environment.ranks: input should be greater than"),
        (
            b'{"schema": 1, "run": "r", "rank_files": 1000000000}',
            "rank_files: input should be less than or equal to 65536",
        ),
    ],
)
def test_a_damaged_manifest_is_an_error_in_words(folder, data, message):
    (folder.path / "manifest.json").write_bytes(data)
    with pytest.raises(ConfigError, match=f"^{folder.path}/manifest.json: {message}"):
        _ = folder.manifest


def cell(**changes):
    needed = dict(suite="s", kind="prefill", model="m", method="full", method_config={"keep": 1}, backend="torch")
    needed |= dict(device="cpu", dtype="float32", workload="w", context_tokens=8, seed=0, task="t")
    return Cell(**(needed | dict(repeats=5, timed=True, prompts=5) | changes))


def test_cell_key_depends_on_what_is_measured_not_on_how_often():
    assert cell().key == cell(repeats=9, prompts=9, timed=False).key
    changes = [{"context_tokens": 9}, {"seed": 1}, {"dtype": "bfloat16"}, {"method_config": {"keep": 2}}]
    assert len({cell(**change).key for change in [{}, *changes]}) == 5
    assert len(cell().key) == 12


def test_cells_of_one_model_workload_and_length_share_a_group():
    assert cell(method="a", backend="cpu", method_config={}).group == cell().group
    assert cell(context_tokens=9).group != cell().group


def test_a_record_of_a_cell_says_what_the_cell_says():
    made = Record.of(cell(), run="r", score=0.5)
    assert (made.cell, made.group, made.workload, made.score) == (cell().key, cell().group, "w", 0.5)


def numbered(cell, index, rank=0):
    return replace(sample(cell), index=index, prompt_sha256=f"{cell}{index}", prediction=str(rank))


def test_arrange_takes_in_the_lines_of_all_ranks_in_the_suites_order(folder):
    other = RunFolder(folder.path, 1)
    folder.records.append([record("c2"), record("average")])
    other.records.append([record("c1")])
    folder.samples.append([numbered("c2", 0), numbered("c1", 2)])
    other.samples.append([numbered("c1", 0), numbered("c1", 1)])
    folder.arrange(["c1", "c2"], 2)
    assert [r.cell for r in folder.records.read()] == ["c1", "c2", "average"]
    assert [(s.cell, s.index) for s in folder.samples.read()] == [("c1", 0), ("c1", 1), ("c1", 2), ("c2", 0)]
    assert not other.records.path.exists()
    assert not other.samples.path.exists()


def test_arrange_takes_a_numbered_prompt_once_and_the_last(folder):
    again = RunFolder(folder.path, 1)
    folder.samples.append([numbered("c1", 0), sample(), sample()])
    again.samples.append([numbered("c1", 0, rank=1)])
    folder.arrange(["c1"], 2)
    assert [(s.index, s.prediction) for s in folder.samples.read()] == [(0, "1"), (None, "p")]


def test_arrange_keeps_records_that_ask_the_same_apart(folder):
    same = [replace(numbered("c1", i), id=f"t/{i}", prompt_sha256="0", answers=[str(i)]) for i in range(2)]
    RunFolder(folder.path, 1).samples.append(same[1:])
    folder.samples.append(same[:1])
    folder.arrange(["c1"], 2)
    assert folder.samples.read() == same


def test_arrange_ignores_a_line_that_was_cut_off(folder):
    other = RunFolder(folder.path, 1)
    other.samples.append([numbered("c1", 0), numbered("c1", 1)])
    other.samples.path.write_text(other.samples.path.read_text()[:-20])
    folder.arrange(["c1"], 2)
    assert [s.index for s in folder.samples.read()] == [0]


def test_keep_groups_keeps_the_samples_of_named_cells(folder):
    folder.records.append([record("c1", group="g1"), record("c2", group="g2")])
    folder.samples.append([sample("c1"), sample("c2"), sample("c3")])
    folder.keep_groups({"g2"}, ["c1", "c2"])
    assert [r.cell for r in folder.records.read()] == ["c2"]
    assert [s.cell for s in folder.samples.read()] == ["c1", "c2"]


def test_arrange_takes_and_removes_only_files_of_ranks_that_have_written(folder):
    names = (
        "records.backup.jsonl",
        "records.1.jsonl",
        "records.rank2.jsonl",
        "samples.rank02.jsonl",
        "samples.old.jsonl",
    )
    for name in names:
        (folder.path / name).write_text("the user's\n")
    RunFolder(folder.path, 1).records.append([record("c1")])
    folder.arrange(["c1"], 2)
    assert [r.cell for r in folder.records.read()] == ["c1"]
    assert sorted(path.name for path in folder.path.iterdir()) == sorted((*names, "records.jsonl", "samples.jsonl"))


@pytest.mark.parametrize("taken", ["records.jsonl", "samples.rank1.jsonl", "records.csv", "report.html", "errors.txt"])
def test_taken_names_what_a_run_would_write(folder, taken):
    (folder.path / "samples.rank2.jsonl").touch()
    assert folder.taken(2) is None
    # a link to nothing is there, too
    (folder.path / taken).symlink_to("nowhere")
    assert folder.taken(2) == taken


@pytest.mark.parametrize("way", ["append", "replace"])
def test_lines_say_that_their_folder_has_gone(folder, way):
    shutil.rmtree(folder.path)
    with pytest.raises(FolderLost, match=r"run: to stay and to take files until its run ends, got No such file or dir"):
        getattr(folder.records, way)([record()])
