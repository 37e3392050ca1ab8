"""Documents: their text, and what is no document."""

import os
import re
import sys
from io import BytesIO

import pytest
from made_pdf import made_pdf, pages_of
from pypdf import PdfReader, PdfWriter

from pcbench.errors import ConfigError, DataMissing
from pcbench.tasks import documents
from pcbench.tasks.documents import read_document
from pcbench.tasks.synthetic import documentation

HTML = """<!-- a page -->
<!DOCTYPE html><html><head><title>Ships</title><style>p { color: red }</style>
<script>if (1 < 2) { document.write("<p>no") }</script></head>
<body><h1>Of  ships</h1><p>One&nbsp;ship &amp; <b>an</b>other
 sails.<br/>On.<script src="a.js"/><template><p>hidden</p></template></p>
<table><tr><td>a</td><td>b</td></tr></table><pre>x = 1
  y = 2</pre></body></html>"""
TEXT = "Ships\n\nOf ships\n\nOne\xa0ship & another sails.\nOn.\n\na b\n\nx = 1\n  y = 2\n"


@pytest.fixture
def written(tmp_path):
    def write(data, name="a.txt"):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


def encrypted(data, password):
    writer = PdfWriter(clone_from=PdfReader(BytesIO(data)))
    writer.encrypt(password, "owner", algorithm="RC4-128")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def test_a_text_is_what_stands_in_it(written):
    assert read_document(written("\ufeffa\r\n# é\n", "a.md")) == "a\r\n# é\n"


def test_a_text_may_speak_of_pdfs_and_a_pdf_may_begin_late(written):
    said = "# PDFs\nThey begin with %PDF-1.4.\n"
    assert read_document(written(said, "a.md")) == said
    data = made_pdf([["a"]])
    assert read_document(written(b"\n" + data, "a")).strip() == "a"
    assert read_document(written(b"from a mail\n" + data, "a.PDF")).strip() == "a"


@pytest.mark.parametrize("name", ["a.html", "a.txt"])
def test_html_is_what_a_browser_shows(written, name):
    assert read_document(written(HTML, name)) == TEXT


def test_a_book_in_a_pdf_is_read_word_by_word(written):
    pages = pages_of([line.rstrip("\n") for line in documentation.lines() if line.isascii()], 35)
    path = written(made_pdf(pages), "book")
    # lines, and the empty ones between pages
    found = read_document(path)
    assert found.split() == " ".join(line for lines in pages for line in lines).split()
    assert len(found) > 50_000


def test_an_encrypted_pdf_that_needs_no_password_is_read(written):
    assert read_document(written(encrypted(made_pdf([["a (b) \\c"]]), ""))).strip() == "a (b) \\c"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a document with text, got an empty one; name a text, HTML or PDF file"),
        (b" \n\n", "a document with text, got an empty one; "),
        (b"<html><script>x</script></html>", "a document with text, got an empty one; "),
        (b"a\x00b", r"a text, got a binary file \(a zero byte at 1\); "),
        (b"\x89PNG\r\n\x1a\n\0\0", r"a text, got a binary file \(a zero byte at 8\); name a text"),
        ("a".encode("utf-16"), "text in UTF-8, got UTF-16; save it as UTF-8"),
        (b"PK\x03\x04\xff", "text in UTF-8, got a zip archive; "),
        ("é".encode("latin-1"), "text in UTF-8, got byte 0xe9 at 0; save it as UTF-8"),
        (made_pdf([[], []]), r"a PDF with text, got 2 pages without any, .*; run OCR on it first"),
        (encrypted(made_pdf([["a"]]), "secret"), "a PDF without a password, got an encrypted one; "),
        (b"%PDF-1.4\nnothing more", r"a PDF that can be read, got a broken one \(.*\); print it to a new PDF"),
    ],
)
def test_what_is_no_document_is_one_line(written, data, message):
    path = written(data)
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}: {message}") as caught:
        read_document(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_plain_file_or_too_large_is_one_line(tmp_path, written, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    for name, kind in (("fifo", "a FIFO"), (".", "a folder")):
        with pytest.raises(ConfigError, match=f": a plain file, got {kind}; name a text, HTML or PDF file"):
            read_document(tmp_path / name)
    with pytest.raises(DataMissing, match="a file, got No such file or directory; name a text"):
        read_document(tmp_path / "none")
    monkeypatch.setattr(documents, "MOST_BYTES", 3)
    with pytest.raises(ConfigError, match="at most 3 bytes, got 5; name a text"):
        read_document(written("abcde"))


def test_a_pdf_without_pypdf_names_the_extra(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(ConfigError, match=r"the package pypdf for a PDF, got none; pip install 'pcbench\[pdf\]'"):
        read_document(written(made_pdf([["a"]])))
