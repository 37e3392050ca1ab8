"""How cells are called where people read of them."""

__all__ = ["placed", "weighed"]


def placed(label: str, workload: str, tokens: int | None) -> str:
    """`ParallelComp on passkey, 8,192 tokens`."""
    return f"{label} on {workload}" + ("" if tokens is None else f", {tokens:,} tokens")


def weighed(label: str, quantize: str | None) -> str:
    """`ParallelComp, int8 weights`; the label alone over the model's own weights."""
    return f"{label}, {quantize} weights" if quantize else label
