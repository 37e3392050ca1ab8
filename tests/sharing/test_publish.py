"""A published run is a run again, its card shows names as text, and nothing leaves unless it is asked to."""

import base64
import json
import re
from pathlib import Path

import pytest
import yaml
from documentation import ROOT
from jsonschema import Draft202012Validator
from made_hub import standing_in
from report.made_runs import HOSTILE, record, suite_records, write_run

from pcbench.cli import main
from pcbench.errors import ConfigError, DataMissing
from pcbench.records import RunFolder, read_run
from pcbench.report import build, build_history
from pcbench.sharing.publish import CARD, names, publish
from pcbench.sharing.schema import FILES

EXAMPLE = ROOT / "reports/examples/prefill_epyc2c_202611"


def front(card):
    return yaml.safe_load(card.split("---\n")[1])


def pcbench(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    return ended.value.code or 0


def test_a_data_set_is_a_run_again_with_its_formats_and_a_card(tmp_path):
    assert publish(EXAMPLE, tmp_path / "set") is False
    found = sorted(str(path.relative_to(tmp_path / "set")) for path in tmp_path.rglob("*") if path.is_file())
    assert found == sorted(names())
    assert read_run(tmp_path / "set") == read_run(EXAMPLE)
    for name, file in FILES.items():
        check = Draft202012Validator(json.loads((tmp_path / "set/schema" / f"{name}.json").read_text(encoding="utf-8")))
        text = (tmp_path / "set" / file).read_text(encoding="utf-8")
        for row in [text] if name == "manifest" else text.splitlines():
            check.validate(json.loads(row))
    card = (tmp_path / "set" / CARD).read_text(encoding="utf-8")
    wanted = [{"config_name": name, "data_files": f"{name}.jsonl"} for name in ("records", "samples")]
    assert front(card)["configs"] == wanted
    assert front(card)["pretty_name"] == "pcbench prefill of smollm2-135m"
    build([EXAMPLE], tmp_path / "page.html")
    sentence = re.search(r'class="sentence">(.*?)</p>', (tmp_path / "page.html").read_text(encoding="utf-8"))[1]
    assert sentence.split(",")[0] in card
    assert "\n| ParallelComp | " in card
    assert build([tmp_path / "set"]).is_file()


def test_a_folder_of_another_run_is_refused(tmp_path):
    publish(write_run(tmp_path / "one", suite_records(run="one")), tmp_path / "set")
    before = (tmp_path / "set/records.jsonl").read_bytes()
    other = write_run(tmp_path / "two", suite_records(run="two"))
    with pytest.raises(ConfigError, match=r"--out: a new folder or that of this run, got .*set of one; choose another"):
        publish(other, tmp_path / "set")
    assert (tmp_path / "set/records.jsonl").read_bytes() == before


def test_names_of_a_card_are_text(tmp_path):
    run = write_run(tmp_path / "run", suite_records(model=HOSTILE), suite="a: [b", model={"name": HOSTILE})
    publish(run, tmp_path / "set")
    card = (tmp_path / "set" / CARD).read_text(encoding="utf-8")
    assert front(card)["pretty_name"] == f"pcbench a: [b of {HOSTILE}"
    assert "<" not in card.split("---\n", 2)[2]
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows if "ParallelComp" in line}) == 1


def test_a_card_that_was_edited_stays_and_the_rest_is_written_anew(tmp_path, capsys):
    run = write_run(tmp_path / "run", suite_records())
    assert pcbench("publish", run) == 0
    card = run / "dataset" / CARD
    card.write_text("edited", encoding="utf-8")
    (run / "dataset/records.jsonl").write_text("", encoding="utf-8")
    capsys.readouterr()
    assert pcbench("publish", run) == 0
    assert card.read_text(encoding="utf-8") == "edited"
    assert f"{card} stays as it is" in capsys.readouterr().err
    assert read_run(run / "dataset")[1] == read_run(run)[1]
    # the data set inside a run is that run, so a history has it once
    assert "1 run at 1 commit" in build_history(tmp_path).read_text(encoding="utf-8")


def test_what_is_no_finished_run_or_no_folder_for_one_is_refused(tmp_path):
    records = suite_records()
    unfinished = write_run(tmp_path / "a", records[:-1], cells=[one.cell for one in records])
    with pytest.raises(ConfigError, match=r"publish: a finished run, got .* without 1 of its 9 cells; go on with it"):
        publish(unfinished, tmp_path / "set")
    with pytest.raises(DataMissing, match=r"publish: a run with records, got .*; measure it first"):
        publish(write_run(tmp_path / "b", []), tmp_path / "set")
    assert not (tmp_path / "set").exists()
    full = write_run(tmp_path / "c", records)
    RunFolder(full).log_errors({"c": "boom"})
    with pytest.raises(ConfigError, match=r"--out: a new folder or that of a data set, got .* with errors.txt in it"):
        publish(full, full)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"--out: a folder that can be made, got .*; choose another"):
        publish(full, tmp_path / "file" / "set")


def test_files_that_name_a_home_folder_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", "/home/ann")
    run = write_run(tmp_path / "run", [record(model="/home/ann/model")], command="pcbench run --suite /home/ann/s.toml")
    assert pcbench("publish", run) == 0
    told = capsys.readouterr().err
    for name in ("manifest.json names /home/ann 1×", "records.jsonl names /home/ann 1×"):
        assert name in told
    assert "samples.jsonl" not in told


@pytest.fixture
def hub(monkeypatch):
    with standing_in(monkeypatch) as server:
        yield server


def test_an_upload_is_one_commit_of_the_files_and_only_when_asked(tmp_path, hub, capsys):
    run = write_run(tmp_path / "run", suite_records())
    assert pcbench("publish", run) == 0
    assert hub.asked == []
    assert capsys.readouterr().out == f"{run / 'dataset'}\n"
    assert pcbench("publish", run, "--to", "hf:org/set") == 0
    assert capsys.readouterr().out == f"{run / 'dataset'}\n{hub.address}/datasets/org/set\n"
    made, *_, (path, token, body) = hub.asked
    assert json.loads(made[2]) == {"name": "set", "organization": "org", "type": "dataset"}
    assert (path, token) == ("/api/datasets/org/set/commit/main", "Bearer hf_made")
    head, *files = map(json.loads, body.splitlines())
    assert head["key"] == "header"
    hub.asked.clear()
    assert pcbench("publish", run, "--to", "hf:org/mine", "--private") == 0
    assert json.loads(hub.asked[0][2]).get("visibility") == "private"
    sent = {file["value"]["path"]: base64.b64decode(file["value"]["content"]) for file in files}
    assert sent == {name: (run / "dataset" / name).read_bytes() for name in names()}


def test_a_refused_upload_a_dead_hub_and_a_wrong_name_are_one_line(tmp_path, hub, capsys, monkeypatch):
    run = write_run(tmp_path / "run", [record()])
    hub.refuses = 401
    assert pcbench("publish", run, "--to", "hf:org/set") == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"--to: an upload to {hub.address}, got ")
    assert told.endswith("; log in by `hf auth login`, or set HF_TOKEN to a token that may write there")
    assert read_run(run / "dataset")[1] == read_run(run)[1]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert pcbench("publish", run, "--to", "hf:org/set") == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"--to: an upload to http://127.0.0.1:9, got .*; the files are in .*, try again with .*", told)
    for wrong in ("org/set", "hf:set", "hf:org/a--b", "s3:org/set"):
        assert pcbench("publish", run, "--to", wrong, "--out", tmp_path / "none") == 2
        assert capsys.readouterr().err.startswith("--to: ")
    assert not Path(tmp_path / "none").exists()
