"""Valid files, changed: a value of theirs becomes another, a key goes or comes, bytes are cut, flipped or doubled."""

import copy
import json
import re
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

# what a key may hold and a reader did not expect
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 1.5, 1e-300, 1e300, 999, 2**31, 2**63, 10**30, "", "x", "1", "\x1b[31mred\x1b[0m",
    "\u202eabc", "two\nlines", "tab\t\r", "[/x] [bold]", "</script><script>", "$x^2$ $", "=1+1", "{{ 7*7 }}", "\0",
    "é" * 300, "ok", "error", "full", "torch", "..", [], {}, [[]], [None], [0.0], [1.0, "x"], {"": {}}, {"a": None},
    {"err": 1.0}, [1] * 500,
]  # fmt: skip
# what JSON cannot say, or says and no program should believe
RAW = [
    "NaN", "-Infinity", "1e999", "9" * 5000, '"\\ud800"', "[" * 100_000, '{"a":' * 2000, '{"a":1,"a":2}', "'x'", "tru",
    "01", "+1", '"\x01"', "[1,]", "/* */ 1",
]  # fmt: skip
MARK = "\ufffdRAW\ufffd"
BYTES = [b"\0", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\n\n", b"{", b"]", b'"', b"\\", b"\xc3", b"\xed\xa0\x80"]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything inside a value, itself included."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


def changed(value: Any) -> SearchStrategy[str]:
    """JSON texts of a value in which one to three things are others."""

    @st.composite
    def made(draw: DrawFn) -> str:
        now, raw = copy.deepcopy(value), None
        for _ in range(draw(st.integers(1, 3))):
            *way, last = draw(st.sampled_from(places(now)[1:])) if places(now)[1:] else (None,)
            if last is None:
                now = copy.deepcopy(draw(st.sampled_from(ODD)))
                continue
            holder = now
            for key in way:
                holder = holder[key]
            how = draw(st.sampled_from(("odd", "odd", "raw", "gone", "key", "twice")))
            if how == "gone":
                del holder[last]
            elif how == "key" and isinstance(holder, dict):
                holder[draw(st.sampled_from([str(last).upper(), f"{last}s", "", "\x1b[2J", "a" * 200]))] = holder.pop(
                    last
                )
            elif how == "twice" and isinstance(holder, list):
                holder.insert(last, holder[last])
            elif how == "raw" and raw is None:
                holder[last], raw = MARK, draw(st.sampled_from(RAW))
            else:
                holder[last] = copy.deepcopy(draw(st.sampled_from(ODD)))
        text = json.dumps(now, ensure_ascii=draw(st.booleans()))
        return re.sub('"(\ufffd|\\\\ufffd)RAW(\ufffd|\\\\ufffd)"', lambda _: raw or "null", text)

    return made()


def spoilt(data: bytes) -> SearchStrategy[bytes]:
    """A file's bytes, cut off, flipped, doubled, or in another encoding."""

    @st.composite
    def made(draw: DrawFn) -> bytes:
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        end = min(len(data), at + draw(st.integers(1, 40)))
        how = draw(st.sampled_from(("cut", "gone", "put", "flip", "twice", "encoded")))
        if how == "encoded":
            return data.decode().encode(draw(st.sampled_from(["utf-16", "utf-32", "latin-1", "utf-8-sig"])), "replace")
        put = draw(st.sampled_from(BYTES))
        return {
            "cut": data[:at],
            "gone": data[:at] + data[end:],
            "put": data[:at] + put + data[at:],
            "flip": data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :] if data else put,
            "twice": data[:end] + data[at:],
        }[how]

    return made()


def of_json(value: Any) -> SearchStrategy[bytes]:
    """A file that holds one value."""
    whole = json.dumps(value, indent=2).encode()
    return changed(value).map(str.encode) | spoilt(whole)


def of_lines(values: list[Any]) -> SearchStrategy[bytes]:
    """A file of a value a line, of which one line is another, or goes, or comes twice, or is cut off."""
    lines = [json.dumps(value).encode() + b"\n" for value in values]

    @st.composite
    def made(draw: DrawFn) -> bytes:
        at = draw(st.integers(0, len(lines) - 1))
        one = draw(changed(values[at])).encode() + draw(st.sampled_from([b"\n", b"\n", b"", b"\r\n"]))
        return b"".join([*lines[:at], one, *lines[at + 1 :]])

    return made() | spoilt(b"".join(lines))
