"""Reading runs from folders and from reports."""

import json
import re

import pytest
from report.made_accuracy import accuracy_records
from report.made_runs import endings, record, stock, suite_records, write_run

from pcbench.errors import ConfigError, DataMissing
from pcbench.records import read_records
from pcbench.report import build
from pcbench.report.reading.runs import embeddable, read_runs


def test_read_runs_counts_the_prompts_behind_a_choice(tmp_path):
    kept, full = record(), stock()
    (run,) = read_runs([write_run(tmp_path / "a", [kept, full])])
    assert run.prompts.choices == {kept.cell: 5}
    assert run.prompts.total == 5


def test_read_runs_keeps_every_field_through_a_report(tmp_path):
    folder = write_run(tmp_path / "a", suite_records() + endings())
    (run,) = read_runs([build([folder])])
    assert run.records == read_records(folder)


def test_read_runs_refuses_nothing():
    with pytest.raises(DataMissing, match="got none"):
        read_runs([])


def test_read_runs_refuses_a_file_that_is_no_report(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<p>pcbench-data</p>")
    with pytest.raises(DataMissing, match="without its data"):
        read_runs([path])


def test_read_runs_refuses_a_binary_file(tmp_path):
    path = tmp_path / "page.html"
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ConfigError, match=r"page.html: text in UTF-8, got byte 0x89 at 0; save it as UTF-8"):
        read_runs([path])


def test_read_runs_refuses_a_page_that_was_cut_off(tmp_path):
    path = build([write_run(tmp_path / "a", [record()])])
    text = path.read_text()
    path.write_text(text[: text.index('"ms_p50"')])
    with pytest.raises(ConfigError, match=r"report.html: data: JSON, got .*; rebuild it from the run's folder"):
        read_runs([path])


@pytest.mark.parametrize("data", ["5", "[]"])
def test_read_runs_refuses_data_that_is_no_object(tmp_path, data):
    path = tmp_path / "page.html"
    path.write_text(f'<script id="pcbench-data">{data}</script>')
    with pytest.raises(ConfigError, match=f"data: format 2, got {re.escape(data)}; rebuild"):
        read_runs([path])


def test_read_runs_refuses_another_format(tmp_path):
    path = build([write_run(tmp_path / "a", [record()])])
    path.write_text(path.read_text().replace('{"format":2', '{"format":1'))
    with pytest.raises(ConfigError, match="format 2, got 1"):
        read_runs([path])


def test_read_runs_names_an_unknown_field(tmp_path):
    path = build([write_run(tmp_path / "a", [record()])])
    path.write_text(path.read_text().replace('"ms_p50"', '"ms_p55"'))
    with pytest.raises(ConfigError, match=r'data.runs\[0\].records\[0\]: unknown key "ms_p55"; did you mean "ms_p50"'):
        read_runs([path])


def test_read_runs_names_a_wrong_value(tmp_path):
    path = build([write_run(tmp_path / "a", [record()])])
    path.write_text(path.read_text().replace('"ms_p50":21893.25', '"ms_p50":"quick"'))
    with pytest.raises(
        ConfigError, match=r"records\[0\].ms_p50: input should be a valid number, got 'quick'; was the file edited\?"
    ):
        read_runs([path])


def edited(path, change):
    """A report whose data is changed by a function of the first run."""
    before, start, rest = path.read_text().partition('id="pcbench-data">')
    data, end, after = rest.partition("</script>")
    held = json.loads(data)
    change(held["runs"][0])
    path.write_text(f"{before}{start}{json.dumps(held)}{end}{after}")
    return path


def set_ops(run, packed):
    run["records"][0][run["names"].index("parity_ops")] = packed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run.pop("names"), ".runs[0].names: a value is required, got none; "),
        (lambda run: run.update(records=5), ".runs[0].records: input should be a valid list, got 5; "),
        (lambda run: run["records"][0].pop(), ".runs[0].records[0]: "),
        (lambda run: run["manifest"].update(schema=999), ".runs[0].manifest: schema 1, got 999; read it with"),
        (lambda run: run["manifest"].pop("run"), ".runs[0].manifest.run: a value is required"),
        (
            lambda run: run["shared"].update(score=7),
            ".runs[0].records[0].score: input should be less than or equal to 1",
        ),
        (lambda run: set_ops(run, [9, 1, 1]), ".runs[0].records[0].parity_ops: number of an op, "),
        (lambda run: set_ops(run, [0, 1]), ".runs[0].records[0].parity_ops: number of an op, "),
        (lambda run: set_ops(run, [0, -1, 1]), ".runs[0].records[0].parity_ops.calibrated_attention"),
        (lambda run: run["prompts"].update(total=-1), ".runs[0].prompts.total: input should be greater than or equal"),
        (lambda run: run["prompts"].update(depths={"c": [[1, 2, 0, 0, 0]] * 5}), ".runs[0].prompts.depths.c: parts of"),
        (lambda run: run["prompts"].update(depths={"c": []}), ".runs[0].prompts.depths.c: list should have at least 5"),
        (lambda run: run["prompts"]["shown"][0].update(score="x"), ".runs[0].prompts.shown[0].score: input should be"),
        (lambda run: run.update(thinned={"c": {"count": 1}}), ".runs[0].thinned.c.sha256: a value is required"),
        (lambda run: run["manifest"].update(x=float("nan")), ": JSON, got NaN, which is no JSON number; "),
    ],
)
def test_read_runs_names_what_is_wrong_in_the_data_of_a_page(tmp_path, change, message):
    path = edited(build([write_run(tmp_path / "a", [record(), stock()])]), change)
    with pytest.raises(ConfigError, match=f"^{path}: data{re.escape(message)}"):
        read_runs([path])


def test_read_runs_refuses_a_record_of_a_cell_that_is_not_planned(tmp_path):
    folder = write_run(tmp_path / "a", [record()], cells=["another"])
    with pytest.raises(ConfigError, match=r"records.jsonl: records of the cells of manifest.json, got one of '"):
        read_runs([folder])


def test_embeddable_writes_shared_fields_and_names_once(tmp_path):
    runs = read_runs([write_run(tmp_path / "a", suite_records())])
    (packed,) = embeddable(runs)["runs"]
    assert packed["shared"]["model"] == "smollm2-135m"
    assert not set(packed["shared"]) & set(packed["names"])
    assert {len(row) for row in packed["records"]} == {len(packed["names"])}


def test_missing_counts_planned_cells_without_a_record(tmp_path):
    records = accuracy_records()
    planned = [r.cell for r in records if r.workload != "average"]
    (run,) = read_runs([write_run(tmp_path / "a", records, cells=[*planned, "another"])])
    assert len(records) > len(planned)
    assert run.missing == 1
