"""Downloads of archives, good and bad."""

import stat
import zipfile

import pytest
from tasks.official.served import R1, archive, everything, get, known, sha256

from pcbench.errors import ConfigError, DataMissing

pytestmark = pytest.mark.usefixtures("folder")


def test_fetch_unpacks_an_archive_into_its_folder(server, folder, tmp_path):
    body = archive(tmp_path, [("data/a.jsonl", "1"), ("data/deep/b.jsonl", "2")])
    server.files[f"/{R1}/data.zip"] = body
    get(known(server, "data.zip", "LongBench", sha256(body), unpack=True))
    assert (folder / "LongBench/data/a.jsonl").read_text() == "1"
    assert (folder / "LongBench/data/deep/b.jsonl").read_text() == "2"
    assert [path for path in everything(folder) if "fetch" in path or "zip" in path] == []


def test_fetch_asks_once_for_an_archive(server, folder, tmp_path):
    body = archive(tmp_path, [("data/a.jsonl", "1"), ("data/deep/b.jsonl", "2")])
    server.files[f"/{R1}/data.zip"] = body
    for table, trust in (
        (known(server, "data.zip", "LongBench", sha256(body), unpack=True), False),
        (known(server, "data.zip", "Trusted", unpack=True), True),
    ):
        server.asked.clear()
        get(table, trust)
        path = table["made"].file[0].path
        assert get(table) == [f"{path} is there"]
        assert server.asked == [f"/{R1}/data.zip"]
        # a member that is gone or was changed brings the archive again
        (folder / path / "data/deep/b.jsonl").write_text("3")
        assert get(table) == [f"{server.url}/{R1}/data.zip → {folder}/{path}"]
        (folder / path / "data/a.jsonl").unlink()
        get(table)
        assert (folder / path / "data/deep/b.jsonl").read_text() == "2"
        assert (folder / path / "data/a.jsonl").read_text() == "1"
        assert len(server.asked) == 3


def test_fetch_unpacks_another_archive_over_the_one_that_is_there(server, folder, tmp_path):
    for text in ("1", "2"):
        body = archive(tmp_path, [("a.jsonl", text)])
        server.files[f"/{R1}/data.zip"] = body
        get(known(server, "data.zip", "LongBench", sha256(body), unpack=True))
        assert (folder / "LongBench/a.jsonl").read_text() == text


def link():
    member = zipfile.ZipInfo("data/link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


@pytest.mark.parametrize("name", ["../out.txt", "data/../../out.txt", "/out.txt", "..\\out.txt", "C:out.txt", link()])
def test_fetch_keeps_nothing_of_an_archive_that_leaves_its_folder(server, folder, tmp_path, name):
    body = archive(tmp_path, [("data/a.jsonl", "1"), (name, "/etc/passwd")])
    server.files[f"/{R1}/data.zip"] = body
    with pytest.raises(DataMissing, match=r"members below its own folder, got '.*'; nothing was kept"):
        get(known(server, "data.zip", "LongBench", sha256(body), unpack=True))
    assert everything(folder) == []
    assert not (tmp_path / "out.txt").exists()


def test_fetch_says_what_is_no_archive(server, folder):
    server.files[f"/{R1}/data.zip"] = b"<html>"
    with pytest.raises(DataMissing, match="a zip archive, got File is not a zip file; nothing was kept"):
        get(known(server, "data.zip", "LongBench", unpack=True), trust=True)
    assert everything(folder) == []


def test_fetch_says_what_is_a_broken_archive(server, folder, tmp_path):
    body = bytearray(archive(tmp_path, [("a.jsonl", "1" * 1000)], zipfile.ZIP_DEFLATED))
    # the first byte of the compressed data: 30 bytes of header and the name stand before it
    body[30 + len("a.jsonl")] ^= 0xFF
    server.files[f"/{R1}/data.zip"] = bytes(body)
    with pytest.raises(DataMissing, match=r"a zip archive, got .*; nothing was kept"):
        get(known(server, "data.zip", "LongBench", unpack=True), trust=True)
    assert everything(folder) == []


def test_an_archive_of_more_than_anybody_has_is_not_unpacked(server, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("pcbench.tasks.official.fetch.MOST_BYTES", 999)
    server.files[f"/{R1}/data.zip"] = archive(tmp_path, [("a.jsonl", "1" * 1000)], zipfile.ZIP_DEFLATED)
    with pytest.raises(DataMissing, match=r"data\.zip: at most 999 bytes in an archive, got more; nothing was kept"):
        get(known(server, "data.zip", "LongBench", unpack=True), trust=True)
    assert everything(folder) == []


@pytest.mark.parametrize("record", ["{", "[]", '{"a": {"b": 1}}', '{"a": "b"}'])
def test_fetch_says_which_record_of_archives_is_none(server, folder, record):
    folder.mkdir()
    (folder / "unpacked.json").write_text(record)
    with pytest.raises(
        ConfigError, match=r"unpacked\.json: (the hashes that were recorded, in )?JSON, got .*; mend it or"
    ):
        get(known(server, "data.zip", "LongBench", "0" * 64, unpack=True))
    assert server.asked == []
