import os
import signal
import socket
import stat
from contextlib import contextmanager

import pytest

from pcbench.errors import ConfigError, DataMissing
from pcbench.plain_files import append_whole, read_bytes, read_lines, read_text, write_for, write_whole


@pytest.fixture(autouse=True)
def _ends():
    """What waits for a FIFO or reads a device without end is stopped."""
    signal.alarm(20)
    yield
    signal.alarm(0)


def link(path, target):
    path.symlink_to(target)
    return path


def fifo(path):
    os.mkfifo(path)
    return path


def bound(path):
    # a socket's name stays when nobody listens
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    return path


SPECIAL = {
    "a folder": lambda tmp: tmp,
    "a FIFO": lambda tmp: fifo(tmp / "fifo"),
    "a device": lambda tmp: link(tmp / "zero", "/dev/zero"),
    "a socket": lambda tmp: bound(tmp / "s"),
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_only_plain_files_are_read(tmp_path, kind):
    path = SPECIAL[kind](tmp_path)
    for read in (read_bytes, read_text, lambda *a: list(read_lines(*a))):
        with pytest.raises(ConfigError, match=f"^{path}: a plain file, got {kind}; name a plain file$"):
            read(path, 100)


@pytest.mark.parametrize("kind", SPECIAL)
def test_only_plain_files_are_replaced_or_added_to(tmp_path, kind):
    path = SPECIAL[kind](tmp_path)
    message = f"{path}: a plain file or a new name, got {kind}; choose another$"
    for write in (write_whole, append_whole):
        with pytest.raises(ConfigError, match=f"^{message}"):
            write(path, "text")
    with pytest.raises(ConfigError, match=f"^--out: {message}"):
        write_for("--out", path, "text")
    assert path.is_symlink() == (kind == "a device")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("none", DataMissing, "a file, got No such file or directory"),
        ("file/below", DataMissing, "a file, got Not a directory"),
        ("x" * 300, ConfigError, "a file that can be read, got File name too long"),
        ("a\0b", ConfigError, "a file that can be read, got embedded null byte"),
        ("half\ud800", ConfigError, "a file that can be read, got 'utf-8' codec"),
        ("loop", ConfigError, "a file that can be read, got Too many levels of symbolic links"),
    ],
)
def test_what_cannot_be_a_file_is_refused_by_name(tmp_path, name, kind, message):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(kind, match=f"^here: {message}"):
        read_bytes(tmp_path / name, 100, where="here")
    with pytest.raises(ConfigError, match=r"^--out: a file that can be written, got "):
        write_for("--out", tmp_path / ("none/below" if name == "none" else name), "x")


def test_half_a_letter_in_a_text_is_not_the_paths_fault(tmp_path):
    (tmp_path / "a").write_text("before")
    message = f"^--out: a text for {tmp_path}/a, got half a letter in it, 0xd800 at 2; mend the files"
    with pytest.raises(ConfigError, match=message):
        write_for("--out", tmp_path / "a", "ab\ud800")
    assert (tmp_path / "a").read_text() == "before"
    assert [x.name for x in tmp_path.iterdir()] == ["a"]


@contextmanager
def nobody():
    """As a user who may not do everything."""
    before = os.geteuid()
    os.seteuid(before or 65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_file_without_permission_is_refused(tmp_path):
    path = tmp_path / "mine"
    path.write_text("x")
    path.chmod(0)
    with nobody(), pytest.raises(ConfigError, match=f"^{path}: a file that can be read, got Permission denied; "):
        read_bytes(path, 100)
    with nobody(), pytest.raises(ConfigError, match=r"^--out: a file that can be written, got .*: Permission denied; "):
        write_for("--out", path, "new")


def test_a_file_is_read_up_to_a_size(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345\n123\n")
    assert read_bytes(path, 10) == path.read_bytes()
    assert list(read_lines(path, 6)) == [(1, b"12345\n"), (2, b"123\n")]
    with pytest.raises(ConfigError, match=r"a: at most 9 bytes, got more; "):
        read_bytes(path, 9)
    with pytest.raises(ConfigError, match=r"a:1: at most 5 bytes, got more; "):
        list(read_lines(path, 5))
    path.write_bytes(b"x" * 8000)
    with pytest.raises(ConfigError, match=r"a: at most 1,000 bytes, got 8,000; "):
        read_bytes(path, 1000)


def test_text_is_utf_8_and_nothing_else(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbf" + "ü".encode())
    assert read_text(path, 100) == "ü"
    for data, got in (("ü".encode("latin-1"), "byte 0xfc at 0"), ("ü".encode("utf-16"), "UTF-16")):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=f"a: text in UTF-8, got {got}; save it as UTF-8"):
            read_text(path, 100)


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    link(tmp_path / "link", tmp_path / "far" / "file")
    for text in ("new", "newer"):
        write_whole(tmp_path / "link", text)
        assert (tmp_path / "far" / "file").read_text() == text
    assert (tmp_path / "link").is_symlink()
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["far", "file", "link"]


def test_a_file_keeps_its_permissions_and_its_neighbours(tmp_path):
    path = tmp_path / "a"
    (tmp_path / "a.part").write_text("mine")
    write_whole(path, "new")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    path.chmod(0o640)
    write_whole(path, "newer")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("newer", 0o640)
    assert (tmp_path / "a.part").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a", "half \ud800")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "old")]
