"""Which sections each kind of measurement has, beside those that every cell stands in."""

__all__ = ["OTHERS", "SECTIONS", "sections_of"]

ANSWERED = ("choose", "budgets", "tradeoff", "memory", "accuracy")
TIMED = ("times", "speedup", "decoding", "rates", "stages", *ANSWERED)

# a kind's name → its sections, by the names of the functions that make them
SECTIONS: dict[str, tuple[str, ...]] = {
    "prefill": TIMED,
    "throughput": TIMED,
    "memory": TIMED,
    "accuracy": ANSWERED,
    "perplexity": ("choose", "perplexity"),
    "kernel": ("kernels",),
}
# of a kind that has none of its own: what is known of every record
OTHERS = ("others",)


def sections_of(kind: str) -> tuple[str, ...]:
    """Names of the sections of a kind; a kind from elsewhere stands in `others`."""
    return SECTIONS.get(kind, OTHERS)
