"""What a person calls the cells of a run: the suite's label or the method's name, and what tells it from the others."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from pcbench.registry import METHODS, method_title
from pcbench.suites.parameters import as_text, flat

__all__ = ["Named", "labels", "title"]


class Named(Protocol):
    """What a label is made from: fields of a cell and of its record."""

    @property
    def label(self) -> str | None: ...
    @property
    def method(self) -> str: ...
    @property
    def method_config(self) -> dict[str, Any]: ...
    @property
    def backend(self) -> str: ...


def labels(cells: Sequence[Named]) -> list[str]:
    """A label for each cell; cells of one method, config and backend have the same, others never.

    The name stands alone where nothing else has it. Else the parameters follow that tell the cells apart, as few as
    are needed: `ParallelComp, half the tokens evicted`. What is null in a config is as good as absent.

    Args:
        cells: of a run, or of everything that is shown together.
    """
    alike: dict[str, list[Named]] = {}
    for cell in cells:
        alike.setdefault(_name(cell), []).append(cell)
    said = {key: text for group in alike.values() for key, text in _apart(group).items()}
    texts = list(said.values())
    # a suite's label may read as another's that was made here
    counts = {key: texts[:i].count(text) for i, (key, text) in enumerate(said.items())}
    said = {key: f"{text} ({counts[key] + 1})" if counts[key] else text for key, text in said.items()}
    return [said[_key(cell)] for cell in cells]


def title(method: str) -> str:
    """A method's name as its authors write it; of what is no method of the registry its own name."""
    return method_title(method) if method in METHODS else method


def _name(cell: Named) -> str:
    return cell.label or title(cell.method)


def _key(cell: Named) -> str:
    return json.dumps([cell.label, cell.method, cell.backend, _stated(cell.method_config)], sort_keys=True)


def _stated(config: dict[str, Any]) -> dict[str, Any]:
    """Without what is null, which later versions may not write, or earlier ones not have known."""
    return {k: _stated(v) if isinstance(v, dict) else v for k, v in config.items() if v is not None}


def _apart(cells: Sequence[Named]) -> dict[str, str]:
    """Key of a cell → its label, for cells of one name."""
    found = {_key(cell): cell for cell in cells}
    several = len({cell.method for cell in cells}) > 1
    texts = {key: [_name(cell), *([title(cell.method)] if several else [])] for key, cell in found.items()}
    configs = {key: _stated(cell.method_config) for key, cell in found.items()}
    for key, words in _told(configs).items():
        texts[key] += words
    compiled = len({cell.backend for cell in cells} - {"reference"}) > 1
    for key, cell in found.items():
        if cell.backend == "reference":
            texts[key].append("in pure PyTorch")
        elif compiled:
            texts[key].append(f"{cell.backend} kernels")
    return {key: ", ".join(text) for key, text in texts.items()}


def _told(configs: Mapping[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Key → the words about its parameters: of as few parameters as tell the configs apart."""
    words: dict[str, list[str]] = {key: [] for key in configs}
    apart, wanted = 1, len({as_text(config) for config in configs.values()})
    for said in _candidates(list(configs.values())):
        if apart == wanted:
            break
        new = {key: [*words[key], *filter(None, [said(config)])] for key, config in configs.items()}
        if (count := len({tuple(text) for text in new.values()})) > apart:
            words, apart = new, count
    return words


def _candidates(configs: Sequence[dict[str, Any]]) -> Iterator[Callable[[dict[str, Any]], str]]:
    """What may be said of a config: parameters with words of their own, every other by its dotted name, the whole."""
    for name in PHRASES:
        if any(name in config for config in configs):
            yield partial(_phrase, name)
    for name in dict.fromkeys(name for config in configs for name, _ in flat(config)):
        yield partial(_plainly, name)
    yield as_text


def _phrase(name: str, config: dict[str, Any]) -> str:
    return PHRASES[name](config[name]) if name in config else ""


def _plainly(name: str, config: dict[str, Any]) -> str:
    """`window 32`, `reverse`, `no reverse`; nothing of what is not there."""
    value = dict(flat(config)).get(name)
    words = name.replace("_", " ").replace(".", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    return "" if value is None else f"{words} {_number(value)}"


def _number(value: Any) -> str:
    return f"{value:,}" if type(value) is int else as_text(value)


def _share(value: float) -> str:
    """Of what stays, how much goes: `half the tokens evicted`."""
    if value == 0.5:
        return "half the tokens evicted"
    return "" if value == 1 else f"{100 * (1 - value):.3g} % of the tokens evicted"


def _evicted(value: dict[str, Any]) -> str:
    if value.get("share") is not None:
        return _share(value["share"])
    return f"{_number(value.get('capacity'))} tokens of a chunk kept"


def _counted(count: Any, noun: str, said: str) -> str:
    return f"{_number(count)} {noun}{'' if count == 1 else 's'} {said}"


TYPES: Mapping[str, str] = {
    "pi": "position interpolation",
    "linear": "position interpolation",
    "ntk": "NTK",
    "yarn": "YaRN",
}
# parameters that several methods have, or that read badly by their names; the methods' configs say what they mean
PHRASES: Mapping[str, Callable[[Any], str]] = {
    "preset": lambda x: f"preset {x}",
    "evict": _evicted,
    "tokens": lambda x: _counted(x, "token", "kept"),
    "share": lambda x: _share(x),
    "chunk_tokens": lambda x: f"chunks of {_number(x)} tokens",
    "keep": lambda x: _counted(x, "chunk", "kept"),
    "micro_batch": lambda x: _counted(x, "chunk", "at a time"),
    "calibration": lambda x: "calibrated" if x else "",
    "type": lambda x: TYPES.get(x, as_text(x)),
    "trained_tokens": lambda x: f"taken as trained on {_number(x)} tokens",
    "factor": lambda x: f"factor {_number(x)}",
}
