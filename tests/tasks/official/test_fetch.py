"""Downloads from a server on this machine: what goes where, which hash counts."""

import json
import os
from fnmatch import fnmatch
from pathlib import Path

import pytest
from real_data import official
from tasks.official.served import R1, archive, everything, get, known, sha256

from pcbench.config import validate
from pcbench.errors import ConfigError, DataMissing
from pcbench.registry import task_tables
from pcbench.tasks.files import data_dir
from pcbench.tasks.official.fetch import SourceFile, fetch, sources

pytestmark = pytest.mark.usefixtures("folder")


def test_fetch_puts_a_file_in_its_place_once(server, folder):
    server.files[f"/{R1}/a.json"] = b'{"a": 1}'
    table = known(server, "a.json", "Some/config/a.json", sha256(b'{"a": 1}'))
    assert get(table) == [f"{server.url}/{R1}/a.json → {folder}/Some/config/a.json"]
    assert (data_dir() / "Some/config/a.json").read_bytes() == b'{"a": 1}'
    assert get(table) == ["Some/config/a.json is there"]
    assert server.asked == [f"/{R1}/a.json"]
    assert everything(folder) == ["Some", "Some/config", "Some/config/a.json"]


def test_fetch_keeps_nothing_of_a_file_that_is_not_what_its_hash_says(server, folder):
    server.files[f"/{R1}/a.json"] = b"changed"
    with pytest.raises(DataMissing, match=f"sha256 {sha256(b'right')}, got {sha256(b'changed')}; nothing was kept"):
        get(known(server, "a.json", "a.json", sha256(b"right")), trust=True)
    assert everything(folder) == []


def test_fetch_leaves_the_file_that_is_there_where_the_new_one_is_wrong(server, folder):
    folder.mkdir()
    (folder / "a.json").write_bytes(b"mine")
    server.files[f"/{R1}/a.json"] = b"changed"
    with pytest.raises(DataMissing):
        get(known(server, "a.json", "a.json", sha256(b"right")))
    assert (folder / "a.json").read_bytes() == b"mine"


def test_fetch_asks_nobody_for_a_file_without_a_hash(server, folder):
    server.files[f"/{R1}/a.json"] = b"x"
    message = rf"data fetch made: a known sha256 of .*/{R1}/a.json, got none; --trust-first"
    with pytest.raises(ConfigError, match=message):
        get(known(server, "a.json", "a.json"))
    assert server.asked == []
    assert everything(folder) == []


def test_a_source_is_a_commit_never_a_branch(server):
    with pytest.raises(ConfigError, match="revision"):
        validate(SourceFile, {"url": "u", "revision": "main", "path": "p"}, "made")


def test_fetch_records_a_first_hash_and_holds_later_downloads_to_it(server, folder):
    server.files[f"/{R1}/a.json"] = b"first"
    table = known(server, "a.json", "a.json")
    get(table, trust=True)
    assert json.loads((folder / "trusted.json").read_text()) == {f"{server.url}/{R1}/a.json": sha256(b"first")}
    assert get(table) == ["a.json is there"]
    (folder / "a.json").unlink()
    server.files[f"/{R1}/a.json"] = b"second"
    with pytest.raises(DataMissing, match=f"sha256 {sha256(b'first')}, got {sha256(b'second')}"):
        get(table, trust=True)
    assert everything(folder) == ["trusted.json"]


def test_fetch_says_what_stands_where_the_file_goes(server, folder):
    server.files[f"/{R1}/a.json"] = b"x"
    folder.mkdir()
    (folder / "file").write_text("")
    with pytest.raises(ConfigError, match=r"data fetch made: a folder that takes files, got \[Errno .*; name another"):
        get(known(server, "a.json", "file/a.json"), trust=True)
    assert everything(folder) == ["file"]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("elsewhere")])
@pytest.mark.parametrize("unpack", [False, True])
def test_fetch_replaces_nothing_that_is_no_plain_file(server, folder, tmp_path, make, unpack):
    server.files[f"/{R1}/a"] = archive(tmp_path, [("0.json", "1"), ("a.json", "1")]) if unpack else b"x"
    (folder / "there").mkdir(parents=True)
    make(folder / "there" / "a.json")
    before = os.lstat(folder / "there" / "a.json")
    with pytest.raises(
        ConfigError, match=r"there/a\.json: a plain file or a new name, got something else; remove it or"
    ):
        get(known(server, "a", "there" if unpack else "there/a.json", unpack=unpack), trust=True)
    assert os.path.samestat(os.lstat(folder / "there" / "a.json"), before)
    assert everything(folder) == ["there", "there/a.json"]


def test_fetch_names_the_nearest_source():
    with pytest.raises(ConfigError, match='data fetch: unknown source "longbensh"; did you mean "longbench"'):
        fetch("longbensh", print)


def test_every_task_that_can_be_fetched_has_its_files_in_a_source():
    fetched = sources()
    for name, table in task_tables().items():
        if not table.get("fetch"):
            continue
        places = [f"{f.path}/*" if f.unpack else f.path for f in fetched[table["fetch"]].file]
        for kind in ("prompts", "limits"):
            wanted = table.get(kind, "").partition(":")[0]
            assert not wanted or wanted in places, f"{name}: {wanted}"
        assert any(fnmatch(path, place) for path in table["files"] for place in places), name


def test_known_hashes_are_those_of_the_files():
    hashed = {file.path: file.sha256 for source in sources().values() for file in source.file if file.sha256}
    configs = [path for path in hashed if path.startswith("LongBench/config/")]
    assert len(configs) == 3
    assert [sha256(path.read_bytes()) for path in official(*configs)] == [hashed[path] for path in configs]


def test_the_known_hash_of_gsm8k_is_that_of_its_records():
    (path,) = official("gsm8k/test.json")
    lines = "".join(json.dumps(record) + "\n" for record in json.loads(path.read_bytes()))
    (file,) = sources()["gsm8k"].file
    assert sha256(lines.encode()) == file.sha256
