"""Peak memory, and the KV cache measured against its prediction."""

from pcbench.report.page import Block, Section, length_block
from pcbench.report.plots import Point
from pcbench.report.results import Entry, Results
from pcbench.report.tables import Column, identity, table
from pcbench.report.wording import number

__all__ = ["memory"]

MIB = 1 / (1 << 20)


def memory(results: Results) -> Section | None:
    """Peak and KV blocks; None without either."""
    blocks = [block for block in (_peak(results), _kv(results)) if block is not None]
    if not blocks:
        return None
    columns = [
        *identity(results),
        Column("peak (MiB)", lambda e: number(e.record.peak_bytes, MIB)),
        Column("peak over stock peak (ratio)", lambda e: number(_of_stock(results, e))),
        Column("KV measured (MiB)", lambda e: number(e.record.kv_bytes, MIB)),
        Column("KV predicted (MiB)", lambda e: number(e.record.kv_bytes_predicted, MIB)),
        Column("measured / predicted", lambda e: number(_ratio(e.record.kv_bytes, e.record.kv_bytes_predicted))),
        Column("kept tokens", lambda e: number(e.record.kept_tokens)),
    ]
    shown = [
        e for e in results.methods if e.usable and (e.record.peak_bytes is not None or e.record.kv_bytes is not None)
    ]
    return Section(
        "memory",
        "Memory",
        "From one untimed pass a cell, so without an interval. On a GPU the peak is the allocator's, weights included; "
        "on a CPU it is what the process grew by after loading the model.",
        [*blocks, Block(tables=[table("Memory, one row a cell", columns, shown)])],
    )


def _peak(results: Results) -> Block | None:
    shown = [e for e in results.methods if e.usable and e.record.peak_bytes is not None]
    if not shown:
        return None
    return length_block(
        "peak",
        shown,
        lambda e: _point(e, e.record.peak_bytes),
        lambda e: _mib(e.record.peak_bytes),
        "bytes",
        "peak, MiB",
        title="Peak",
    )


def _kv(results: Results) -> Block | None:
    shown = [e for e in results.methods if e.usable and e.record.kv_bytes is not None]
    if not shown:
        return None
    return length_block(
        "kv",
        shown,
        lambda e: _point(e, e.record.kv_bytes),
        lambda e: f"{_mib(e.record.kv_bytes)}, predicted {_mib(e.record.kv_bytes_predicted)}",
        "bytes",
        "KV cache, MiB",
        title="KV cache",
        notes=["Markers are measured, the dotted line is predicted from the model's shape."],
        expected=lambda e: _point(e, e.record.kv_bytes_predicted) if e.record.kv_bytes_predicted else None,
    )


def _point(entry: Entry, size: int | None) -> Point:
    # nothing has no place on a log axis
    value = size * MIB if size else None
    return Point(entry.series, entry.record.context_tokens or 0, value, value, value)


def _mib(size: int | None) -> str:
    return "not measured" if size is None else f"{number(size, MIB)} MiB"


def _of_stock(results: Results, entry: Entry) -> float | None:
    stock = results.stock_of(entry)
    return None if stock is None else _ratio(entry.record.peak_bytes, stock.record.peak_bytes)


def _ratio(a: int | None, b: int | None) -> float | None:
    return a / b if a is not None and b else None
