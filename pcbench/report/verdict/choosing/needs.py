"""The memory a method needs at a length: measured there, bounded by arithmetic, or not known."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from pcbench.report.reading.results import Entry
from pcbench.report.verdict.choosing.asked import amount

__all__ = ["ITEM_BYTES", "Fit", "Need", "held_by_full", "need_of", "weight_bytes"]

Fit = Literal["fits", "does not fit", "cannot tell"]
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# endings after which the same command may well have a result
AGAIN = ("error", "timeout", "data_missing")


@dataclass(frozen=True)
class Need:
    """Bytes of weights, prefill and answer.

    On a GPU what the allocator held, without the driver's own context; on a CPU without interpreter and libraries.

    Args:
        low: at least: the least of all passes or, where it was not measured at the length, what arithmetic says.
        high: at most: of all passes, on a GPU as much as the allocator had reserved; None where it was not measured.
        parts: what `low` is made of where it was not measured.
        why: why it was not; empty where it was.
        missing: whether measuring it at this length would tell.
    """

    low: int
    high: int | None
    parts: str = ""
    why: str = ""
    missing: bool = False

    def fit(self, limit: int) -> Fit:
        """Whether `limit` bytes hold it."""
        if self.low > limit:
            return "does not fit"
        return "fits" if self.high is not None and self.high <= limit else "cannot tell"

    def words(self, limit: int | None) -> str:
        """What was measured, and what it says of a limit."""
        if limit is None:
            return self.why if self.high is None else self._span()
        fit = self.fit(limit)
        if self.high is not None:
            return f"{fit}: {'passes took ' if fit == 'cannot tell' else ''}{self._span()}"
        return f"{fit}: {self.why}" if fit == "cannot tell" else f"{fit}: {self.parts} alone take {amount(self.low)}"

    def _span(self) -> str:
        ends = dict.fromkeys(amount(size) for size in (self.low, self.high or 0))
        return " to ".join(ends)


def need_of(entries: Sequence[Entry], context: int, weights: int | None, held: int | None) -> Need:
    """What is known of a method.

    Args:
        entries: of the method, at all lengths.
        context: the length that is asked for.
        weights: bytes of the model's; None where the runs do not say it.
        held: keys and values that it stores of so many tokens for certain, None where no formula says it.
    """
    measured = [e for e in entries if e.usable and e.record.peak_bytes is not None]
    spans = [_span(e, weights) for e in measured if e.record.context_tokens == context]
    known = [span for span in spans if span is not None]
    if known:
        return Need(min(low for low, _ in known), max(high for _, high in known))
    parts = ", ".join(["weights"] * (weights is not None) + ["keys and values"] * (held is not None))
    bound = (weights or 0) + (held or 0)
    if spans:
        return Need(bound, None, parts, "the runs do not say how large the weights are")
    ended = [e.record.status for e in entries if e.record.context_tokens == context and e.record.status != "ok"]
    if ended and not any(status in AGAIN for status in ended):
        return Need(bound, None, parts, f"{ended[-1].replace('_', ' ')} at {context:,} tokens")
    lengths = [e.record.context_tokens for e in measured if e.record.context_tokens is not None]
    return Need(bound, None, parts, _unmeasured(lengths, context), missing=True)


def _unmeasured(lengths: Sequence[int], context: int) -> str:
    if not lengths:
        return "not measured"
    shorter = [tokens for tokens in lengths if tokens < context]
    return f"measured up to {max(shorter):,} tokens" if shorter else f"measured from {min(lengths):,} tokens on"


def _span(entry: Entry, weights: int | None) -> tuple[int, int] | None:
    """The least and the most of the passes; None on a CPU whose records do not hold the weights."""
    r = entry.record
    passes = r.peak_samples_bytes or [r.peak_bytes or 0]
    decode = (r.phase_bytes or {}).get("decode", 0)
    low, high = max(min(passes), decode), max(*passes, decode, r.reserved_bytes or 0)
    if r.device != "cpu":
        return low, high
    return None if weights is None else (weights + low, weights + high)


def weight_bytes(spec: dict[str, Any], dtype: str) -> int | None:
    """Of a manifest's model; None where it or the dtype's size is not known."""
    parameters, size = _count(spec, "parameters"), ITEM_BYTES.get(dtype)
    return parameters * size if parameters and size else None


def held_by_full(entries: Sequence[Entry], spec: dict[str, Any], dtype: str, context: int) -> int | None:
    """Keys and values that full attention stores: every token's but those reserved for the answer.

    None unless it held just as many at a length that was measured, which a model with windows would not.
    """
    token = 2 * ITEM_BYTES.get(dtype, 0) * prod(_count(spec, name) for name in ("layers", "kv_heads", "head_dim"))
    if not token:
        return None
    reserved = set()
    for entry in entries:
        r = entry.record
        if r.is_full and entry.usable and r.context_tokens and r.kv_bytes and r.kv_bytes == r.kv_bytes_predicted:
            reserved.add(r.context_tokens - (r.compared_kv_bytes or 0) // token)
    if not reserved or min(reserved) < 0 or max(reserved) >= context:
        return None
    return (context - max(reserved)) * token


def _count(spec: dict[str, Any], name: str) -> int:
    """A number of a manifest that somebody may have edited; 0 where it is none that a machine could hold."""
    value = spec.get(name)
    return value if type(value) is int and 0 < value < 1 << 48 else 0
