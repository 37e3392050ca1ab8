"""Downloads that go wrong: one line, and nothing is left."""

import resource
import signal

import pytest
from tasks.official.served import R1, everything, get, known

from pcbench.errors import DataMissing, DiskFull

pytestmark = pytest.mark.usefixtures("folder")


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
