"""The text of a document: plain text, Markdown, HTML or PDF."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

from pcbench.errors import ConfigError, first_line
from pcbench.plain_files import MARKS, decoded, read_bytes

__all__ = ["read_document"]

# a book has a few MB; scans, which hold no text, have hundreds
MOST_BYTES = 1 << 29
HTML_NAMES = (".html", ".htm", ".xhtml")
HTML_START = re.compile(r"\s*(<!--.*?-->\s*)*<(!doctype html|html)\b", re.I | re.S)
PDF_NAME, PDF_START = ".pdf", b"%PDF-"
REMEDY = "name a text, HTML or PDF file"

# elements whose text nobody sees, and those that stand on lines of their own
HIDDEN = ("script", "style", "template")
BLOCKS = frozenset(
    (
        *("address", "article", "aside", "blockquote", "br", "caption", "dd", "details", "div", "dl", "dt", "fieldset"),
        *("figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "hr", "li"),
        *("main", "nav", "ol", "p", "pre", "section", "summary", "table", "title", "tr", "ul"),
    )
)
CELLS = ("td", "th")


def read_document(path: Path) -> str:
    """A document's text.

    A file that begins as a PDF is one, and one named .pdf in whose first KiB a PDF begins; one named .html or .htm, or
    that begins as HTML, is HTML; all else is text in UTF-8 as it stands.

    Raises:
        DataMissing: there is no such file.
        ConfigError: no plain file, larger than 512 MiB, without text, in another encoding, binary, a PDF that is
            encrypted, made of pictures or broken, or a PDF without the package pypdf.
    """
    where = str(path)
    data = read_bytes(path, MOST_BYTES, where=where, remedy=REMEDY)
    if _is_pdf(path, data[:1024]):
        return _pdf_text(data, where)
    # UTF-16 has zero bytes, too, and other files are named by how they begin
    if b"\0" in data and not data.startswith(tuple(MARKS)):
        raise ConfigError(f"{where}: a text, got a binary file (a zero byte at {data.index(0)}); {REMEDY}")
    text = decoded(data, where)
    if path.suffix.lower() in HTML_NAMES or HTML_START.match(text):
        text = _html_text(text)
    if not text.strip():
        raise ConfigError(f"{where}: a document with text, got an empty one; {REMEDY}")
    return text


def _is_pdf(path: Path, head: bytes) -> bool:
    """Whether a file is one; a text may speak of PDFs, and a PDF may have something before it."""
    return head.lstrip().startswith(PDF_START) or (path.suffix.lower() == PDF_NAME and PDF_START in head)


class _Text(HTMLParser):
    """Collects what a browser would show as text, in `parts`."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden = self.as_it_stands = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.hidden += tag in HIDDEN
        self.as_it_stands += tag == "pre"
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        # an element without a text
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self.hidden = max(0, self.hidden - (tag in HIDDEN))
        self.as_it_stands = max(0, self.as_it_stands - (tag == "pre"))
        if tag in BLOCKS:
            self.parts.append("\n")
        if tag in CELLS:
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if self.hidden:
            return
        if not self.as_it_stands:
            data = re.sub(r"[ \t\r\n\f]+", " ", data)
            if not self.parts or self.parts[-1].endswith(("\n", " ")):
                data = data.removeprefix(" ")
        # an empty part would hide the space before it
        if data:
            self.parts.append(data)


def _html_text(text: str) -> str:
    """Lines of the blocks, without scripts and styles; at most one empty line between two."""
    parser = _Text()
    parser.feed(text)
    parser.close()
    plain = re.sub(r" +\n", "\n", "".join(parser.parts))
    return re.sub(r"\n{3,}", "\n\n", plain).strip("\n") + "\n"


def _pdf_text(data: bytes, where: str) -> str:
    """The pages' text with an empty line between two."""
    try:
        from pypdf import PdfReader
    except ImportError:
        raise ConfigError(f"{where}: the package pypdf for a PDF, got none; pip install 'pcbench[pdf]'") from None
    pages: list[str] = []
    encrypted = locked = False
    with _quiet():
        try:
            reader = PdfReader(BytesIO(data))
            encrypted = reader.is_encrypted
            locked = encrypted and not reader.decrypt("")
            pages += [] if locked else [page.extract_text() for page in reader.pages]
        # a broken file, and a cipher that needs another package, may raise anything
        except Exception as error:
            got = f"{'an encrypted' if encrypted else 'a broken'} one ({first_line(error)})"
            raise ConfigError(f"{where}: a PDF that can be read, got {got}; print it to a new PDF") from error
    if locked:
        raise ConfigError(f"{where}: a PDF without a password, got an encrypted one; save it without")
    # characters beyond 16 bits come in halves from some files
    text = "\n\n".join(pages).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if not text.strip():
        raise ConfigError(
            f"{where}: a PDF with text, got {len(pages)} pages without any, as of a scan; run OCR on it first"
        )
    return text


@contextmanager
def _quiet() -> Iterator[None]:
    """What pypdf says of small mistakes of a file is no message of a command."""
    logger = logging.getLogger("pypdf")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
