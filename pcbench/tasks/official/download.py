"""The bytes at an address of the web, as they are or not at all."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from urllib import request

from pcbench.errors import DataMissing

__all__ = ["MOST_BYTES", "pieces"]

# seconds without a byte
PATIENCE = 60
PIECE = 1 << 20
# of a file, and of what an archive holds
MOST_BYTES = 1 << 36
# nothing else: a server that sends us on may not name a file of this machine
HANDLERS = (
    request.ProxyHandler,
    request.HTTPHandler,
    request.HTTPSHandler,
    request.HTTPRedirectHandler,
    request.HTTPErrorProcessor,
    request.HTTPDefaultErrorHandler,
    request.UnknownHandler,
)


def pieces(address: str) -> Iterator[bytes]:
    """What stands at an address, to its end.

    Args:
        address: http or https.

    Raises:
        DataMissing: nobody answers, or not with the file: an error, an end before its length, a page, a way elsewhere.
    """
    got = 0
    opener = request.OpenerDirector()
    for handler in HANDLERS:
        opener.add_handler(handler())
    try:
        with opener.open(address, timeout=PATIENCE) as answer:
            length = _length(answer)
            while piece := answer.read(PIECE):
                got += len(piece)
                if got > MOST_BYTES:
                    raise ValueError(f"more than {MOST_BYTES:,} bytes")
                yield piece
    # an address that a server sends us to may be none, which is a ValueError
    except (OSError, HTTPException, ValueError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataMissing(f"{address}: the file, got {said}; nothing was kept, try again or get it by hand") from error
    if length is not None and got != length:
        raise DataMissing(f"{address}: {length} bytes, got {got}; nothing was kept, try again")


def _length(answer: HTTPResponse) -> int | None:
    """The bytes that an answer says it has; None where it says nothing.

    Raises:
        ValueError: it is not the file as it is.
    """
    if answer.status != HTTPStatus.OK:
        raise ValueError(f"HTTP status {answer.status}")
    if (coding := answer.headers.get("Content-Encoding", "identity")) != "identity":
        raise ValueError(f"Content-Encoding {coding}")
    if answer.headers.get_content_type() == "text/html":
        raise ValueError("a page in HTML")
    length = answer.headers.get("Content-Length")
    if length is None:
        return None
    if not re.fullmatch("[0-9]{1,15}", length.strip()):
        raise ValueError(f"Content-Length {length!r}")
    return int(length)
