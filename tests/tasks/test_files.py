import json

import pytest

from pcbench.errors import BadData, BadRecord, ConfigError
from pcbench.tasks.files import count, data_dir, place, read_record, set_data_dir, with_data_dir


def test_data_dir_is_the_one_named_or_a_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PCBENCH_DATA", str(tmp_path))
    assert data_dir() == tmp_path
    monkeypatch.delenv("PCBENCH_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_dir() == tmp_path / "cache/pcbench/data"
    set_data_dir(tmp_path / "a/../b")
    assert data_dir() == tmp_path / "b"


@pytest.mark.parametrize("before", ["/somewhere", None])
def test_with_data_dir_ends_with_its_block(monkeypatch, tmp_path, before):
    monkeypatch.setenv("PCBENCH_DATA", "x")
    if before is None:
        monkeypatch.delenv("PCBENCH_DATA")
    outside = data_dir()

    def inside():
        with with_data_dir(tmp_path):
            raise ConfigError(str(data_dir()))

    with pytest.raises(ConfigError, match=str(tmp_path)):
        inside()
    assert data_dir() == outside


def test_read_record_reads_a_changed_file_again(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1}\n{"n": "é"}\n')
    assert [read_record(path, i)["n"] for i in (1, 0)] == ["é", 1]
    path.write_text('{"n": 12345}')
    assert (count(path), read_record(path, 0)) == (1, {"n": 12345})


@pytest.mark.parametrize(("text", "message"), [("{", "JSON, got "), ('{"a": 1}', "a list in JSON, got a dict")])
def test_a_json_file_that_is_no_list_is_an_error(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(BadData, match=f"a.json: {message}"):
        read_record(path, 0)
    path.write_text(json.dumps([1, 2]))
    assert count(path) == 2


@pytest.mark.parametrize("wrong", ['{"n": ', '"\\ud800"', "[" * 100_000, "NaN", b'"\xff"'])
def test_a_record_that_cannot_be_read_is_named_by_its_line(tmp_path, wrong):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n1\n" + (wrong if isinstance(wrong, bytes) else wrong.encode()) + b"\n2\n")
    assert (count(path), read_record(path, 0), read_record(path, 2)) == (3, 1, 2)
    with pytest.raises(
        BadRecord, match=r"a.jsonl:3: (JSON, got .*; get the file again|text in UTF-8, got .*; save it)"
    ) as caught:
        read_record(path, 1)
    assert "\n" not in str(caught.value)


def test_place_counts_empty_lines_of_a_jsonl_and_records_of_a_json(tmp_path):
    lines, listed = tmp_path / "a.jsonl", tmp_path / "a.json"
    lines.write_text("\n1\n\n2\n")
    listed.write_text("[1, 2]")
    assert [place(lines, 1), place(listed, 1)] == [f"{lines}:4", f"{listed}: record 1"]


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_a_file_without_records_is_bad_as_a_whole(tmp_path, text):
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(BadData, match=r"a.jsonl: records, got none; get the file again"):
        read_record(path, 0)
