"""Reading runs from folders and from reports."""

import pytest
from report.made_accuracy import accuracy_records
from report.made_runs import endings, record, stock, suite_records, write_run

from pcbench.errors import ConfigError, DataMissing
from pcbench.records import read_records
from pcbench.report import build
from pcbench.report.runs import embeddable, read_runs


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
    with pytest.raises(DataMissing, match="a report written by pcbench, got no text"):
        read_runs([path])


def test_read_runs_refuses_a_page_that_was_cut_off(tmp_path):
    path = build([write_run(tmp_path / "a", [record()])])
    text = path.read_text()
    path.write_text(text[: text.index('"ms_p50"')])
    with pytest.raises(ConfigError, match=r"whole embedded data, got .*; rebuild from the folder"):
        read_runs([path])


@pytest.mark.parametrize(("data", "kind"), [("5", "int"), ("[]", "list")])
def test_read_runs_refuses_data_that_is_no_object(tmp_path, data, kind):
    path = tmp_path / "page.html"
    path.write_text(f'<script id="pcbench-data">{data}</script>')
    with pytest.raises(ConfigError, match=f"embedded data of format 2, got {kind}"):
        read_runs([path])


def test_read_runs_refuses_another_format(tmp_path):
    path = build([write_run(tmp_path / "a", [record()])])
    path.write_text(path.read_text().replace('{"format":2', '{"format":1'))
    with pytest.raises(ConfigError, match="format 2, got 1"):
        read_runs([path])


def test_read_runs_names_an_unknown_field(tmp_path):
    path = build([write_run(tmp_path / "a", [record()])])
    path.write_text(path.read_text().replace('"ms_p50"', '"ms_p55"'))
    with pytest.raises(ConfigError, match='unknown field "ms_p55"; did you mean "ms_p50"'):
        read_runs([path])


def test_read_runs_names_a_wrong_value(tmp_path):
    path = build([write_run(tmp_path / "a", [record()])])
    path.write_text(path.read_text().replace('"ms_p50":21893.25', '"ms_p50":"quick"'))
    with pytest.raises(ConfigError, match="got 'quick'"):
        read_runs([path])


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
