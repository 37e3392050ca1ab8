"""A method's parameters as dotted names and texts."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["as_text", "flat", "varying"]


def flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every parameter, those of nested tables too."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def as_text(value: object) -> str:
    """A value as labels show it; equal values give equal texts."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def varying(configs: Sequence[dict[str, str]]) -> list[str]:
    """Names whose texts are not the same in all configs, or that some lack: `evict` and `evict.capacity`."""
    names = dict.fromkeys(name for config in configs for name in config)
    return [name for name in names if len({config.get(name) for config in configs}) > 1]
