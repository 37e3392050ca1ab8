"""Downloads from a server on this machine."""

import hashlib
import json
import os
import resource
import signal
import stat
import threading
import zipfile
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from real_data import official

from pcbench.config import validate
from pcbench.errors import ConfigError, DataMissing, DiskFull
from pcbench.registry import task_tables
from pcbench.tasks.files import data_dir
from pcbench.tasks.official.fetch import Source, SourceFile, fetch, sources

R1 = "c0ffee12" * 5


@pytest.fixture
def server():
    """Serves `server.files` path → bytes; `server.asked` lists the paths; a path in `server.short` ends early.

    `server.raw` path → all that is sent.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            running.asked.append(self.path)
            if self.path in running.raw:
                self.wfile.write(running.raw[self.path])
                self.close_connection = True
                return
            if self.path not in running.files:
                self.send_error(404)
                return
            body = running.files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:-1] if self.path in running.short else body)

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.files, running.raw, running.asked, running.short = {}, {}, [], set()
    running.url = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PCBENCH_DATA", str(tmp_path / "data"))
    # the server is on this machine, whatever proxy the environment names
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "data"


def known(server, name, path, sha256="", unpack=False, revision=R1):
    url = f"{server.url}/{{revision}}/{name}"
    file = SourceFile(url=url, revision=revision, sha256=sha256, path=path, unpack=unpack)
    return {"made": Source(summary="for a test", file=[file])}


def get(table, trust=False):
    said = []
    fetch("made", said.append, trust_first_use=trust, known=table)
    return said


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []


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


@pytest.mark.parametrize("path", [f"/{R1}/short.json", f"/{R1}/none.json"])
def test_fetch_keeps_nothing_of_a_broken_download(server, folder, path):
    server.files[f"/{R1}/short.json"] = b"0123456789"
    server.short.add(f"/{R1}/short.json")
    with pytest.raises(DataMissing, match=r"10 bytes, got 9|HTTP Error 404"):
        get(known(server, path.removeprefix(f"/{R1}/"), "a.json"), trust=True)
    assert everything(folder) == []


def test_fetch_says_that_nobody_answers(server, folder):
    table = known(server, "a.json", "a.json")
    server.shutdown()
    server.server_close()
    with pytest.raises(DataMissing, match=r"a.json: the file, got .*refused.*; nothing was kept, try again"):
        get(table, trust=True)
    assert everything(folder) == []


def archive(tmp_path, members, compression=zipfile.ZIP_STORED):
    path = tmp_path / "made.zip"
    with zipfile.ZipFile(path, "w", compression) as packed:
        for name, text in members:
            packed.writestr(name, text)
    return path.read_bytes()


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


OK = "HTTP/1.1 200 OK\r\n"
SENT_ON = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (f"{OK}Content-Length: abc\r\n\r\n0123", "got Content-Length 'abc'"),
        (f"{OK}Content-Length: -1\r\n\r\n0123", "got Content-Length '-1'"),
        (f"{OK}Content-Length: {'9' * 5000}\r\n\r\n0123", "got Content-Length '9999"),
        (f"{OK}Content-Length: 9\r\n\r\n0123", "9 bytes, got 4"),
        (f"{OK}Transfer-Encoding: chunked\r\n\r\n9\r\n0123", "got IncompleteRead"),
        (f"{OK}Transfer-Encoding: chunked\r\n\r\nx\r\n0123", "got IncompleteRead"),
        (f"{OK}Content-Encoding: gzip\r\n\r\n0123", "got Content-Encoding gzip"),
        (f"{OK}Content-Type: text/html; charset=utf-8\r\n\r\n<html>", "got a page in HTML"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "got HTTP status 204"),
        ("HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\n\r\n0123", "got HTTP status 206"),
        ("HTTP/1.1 500 \x1b[31m\r\nContent-Length: 0\r\n\r\n", "got HTTP Error 500"),
        (f"{SENT_ON}file:///etc/passwd\r\n\r\n", "got HTTP Error 302"),
        (f"{SENT_ON}ftp://127.0.0.1/x\r\n\r\n", "got <urlopen error unknown url type: ftp>"),
        (f"{SENT_ON}data:,x\r\n\r\n", "got HTTP Error 302"),
        (f"{SENT_ON}http://[::1\r\n\r\n", "got "),
        (f"{SENT_ON}http://\r\n\r\n", "got "),
        (f"{SENT_ON}http://127.0.0.1:x/\r\n\r\n", "got "),
        (f"{SENT_ON}http://{'a' * 100}.{'b' * 300}/\r\n\r\n", "got "),
        (f"{SENT_ON}/{R1}/a.json\r\n\r\n", "infinite loop"),
        ("HTTP/1.1 302 Found\r\n\r\n", "got HTTP Error 302"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "got SSH-2.0-OpenSSH_9.2"),
        ("\0" * 70000, "got "),
        ("HTTP/1.1 200 OK\r\n" + "A: b\r\n" * 1000, "got "),
        ("", "got "),
    ],
)
def test_an_answer_that_is_not_the_file_is_one_line_and_leaves_nothing(server, folder, answer, said):
    server.raw[f"/{R1}/a.json"] = answer.encode()
    with pytest.raises(DataMissing) as error:
        get(known(server, "a.json", "a.json"), trust=True)
    assert str(error.value).startswith(f"{server.url}/{R1}/a.json: ")
    assert said in str(error.value)
    assert "; nothing was kept, try again" in str(error.value)
    assert "\n" not in str(error.value)
    assert everything(folder) == []


def test_an_archive_of_more_than_anybody_has_is_not_unpacked(server, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("pcbench.tasks.official.fetch.MOST_BYTES", 999)
    server.files[f"/{R1}/data.zip"] = archive(tmp_path, [("a.jsonl", "1" * 1000)], zipfile.ZIP_DEFLATED)
    with pytest.raises(DataMissing, match=r"data\.zip: at most 999 bytes in an archive, got more; nothing was kept"):
        get(known(server, "data.zip", "LongBench", unpack=True), trust=True)
    assert everything(folder) == []


def test_a_download_without_an_end_ends(server, folder, monkeypatch):
    monkeypatch.setattr("pcbench.tasks.official.download.MOST_BYTES", 999)
    server.files[f"/{R1}/a.json"] = bytes(1000)
    with pytest.raises(DataMissing, match=r"a\.json: the file, got more than 999 bytes; nothing was kept"):
        get(known(server, "a.json", "a.json"), trust=True)
    assert everything(folder) == []


def test_fetch_says_that_the_disk_is_full(server, folder):
    server.files[f"/{R1}/a.json"] = bytes(1 << 20)
    # so the kernel refuses to write more than 4 KiB into a file
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(DiskFull, match="data: room on the disk, got File too large; make room"):
            get(known(server, "a.json", "a.json"), trust=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
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
