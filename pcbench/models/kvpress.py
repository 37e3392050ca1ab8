"""Stock forwards under a press of kvpress, whose import and whose hooks change nothing outside of them.

Importing kvpress puts wrappers around every attention function that transformers knows, so that keys can be masked by
head. They are taken away again as soon as it is imported and stand only while one of the forwards below runs.
"""

import copy
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import sdpa_kernel
from transformers.cache_utils import DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pcbench.errors import ConfigError
from pcbench.models.interface import CACHE, attention
from pcbench.models.quiet import quietly
from pcbench.models.rotary import swapped
from pcbench.models.stores.roomy import give_room

__all__ = ["HFPressed", "HFPressedModel", "kvpress"]

# what its hooks and presses call the cache, in every version of transformers
THEIRS = "past_key_values"
# where an attention module holds which keys are masked: indices of batch rows, kv-heads and keys
MASK = "masked_key_indices"
# after these the next position is the next place in the cache, as in kvpress's own pipeline
MOVING = ("KeyRerotationPress", "RestoreKVPress")
DECODING = ("DecodingPress", "PrefillDecodingPress")


@cache
def kvpress() -> tuple[Any, dict[str, Callable[..., Any]]]:
    """The module kvpress, and attention function's name → what it put around the function.

    Raises:
        ImportError: it, or what it imports, is not installed.
        ConfigError: somebody else has imported it in this process, whose attention can no longer be had as it was.
    """
    if "kvpress" in sys.modules:
        raise ConfigError(
            "kvpress: a process in which only pcbench imports it, got one whose attention it has changed; do not "
            "import it beside pcbench"
        )
    before = dict(ALL_ATTENTION_FUNCTIONS.items())
    try:
        import kvpress as library

        wrapped = {name: f for name, f in ALL_ATTENTION_FUNCTIONS.items() if f is not before.get(name)}
    finally:
        _put(before)
    return library, wrapped


def _put(functions: dict[str, Callable[..., Any]]) -> None:
    """Makes these the attention functions of transformers."""
    table = ALL_ATTENTION_FUNCTIONS
    for name, function in functions.items():
        if table[name] is not function:
            # where the name's function was everybody's, it is so again
            del table[name]
            if table.get(name) is not function:
                table[name] = function


@contextmanager
def _wrapped() -> Iterator[None]:
    """Attention functions inside are those that kvpress put around transformers'."""
    before = dict(ALL_ATTENTION_FUNCTIONS.items())
    for name, function in kvpress()[1].items():
        ALL_ATTENTION_FUNCTIONS[name] = function
    try:
        yield
    finally:
        _put(before)


@dataclass
class HFPressed:
    """A cache that a press has compressed.

    Args:
        press: whose hooks go on while tokens follow; None where it is done.
        cache: transformers' own; layers may hold different numbers of keys.
        position: of the next token.
        masked: layer → batch rows, kv-heads and places of keys that attention does not see.
        warnings: what kvpress logged when it was made and when it ran.
    """

    press: Any = None
    cache: Any = field(default_factory=DynamicCache)
    position: int = 0
    masked: dict[int, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def is_masked(self) -> bool:
        return any(len(places[0]) for places in self.masked.values())

    def lengths(self) -> list[int]:
        """Keys that each layer stores."""
        return [layer.keys.shape[2] for layer in self.cache.layers]

    def kept(self) -> Callable[[], float]:
        """Keys that attention sees now, mean over layers and kv-heads."""
        lengths, masked, heads = self.lengths(), dict(self.masked), self.cache.layers[0].keys.shape[1]

        def counted() -> float:
            unseen = sum(torch.stack(tuple(places)).unique(dim=1).shape[1] for places in masked.values())
            return (sum(lengths) - unseen / heads) / len(lengths)

        return counted

    def stored_bytes(self) -> int:
        """Of the memory that keys and values lie in, shared memory once."""
        found = [x.untyped_storage() for x in self._tensors()]
        return sum({x.data_ptr(): x.nbytes() for x in found}.values())

    def shaped_bytes(self) -> int:
        """Of the keys and values themselves."""
        return sum(x.numel() * x.element_size() for x in self._tensors())

    def _tensors(self) -> list[Tensor]:
        return [x for layer in self.cache.layers for x in (layer.keys, layer.values)]


class HFPressedModel:
    """A runner's model under a press.

    Args:
        runner: an `HFRunner`.
        make: the press, given the module kvpress.

    Raises:
        ImportError: kvpress, or what it imports, is not installed.
        ConfigError: the press is wrong, or somebody else has imported kvpress.
    """

    def __init__(self, runner: Any, make: Callable[[Any], Any]) -> None:
        self.runner, self.model = runner, runner.model
        library, _ = kvpress()
        with quietly(), _heard() as self.warnings:
            self.press = make(library)
            # what it fetches is there before anything is timed
            self.press.post_init_from_model(self.model)
        kinds = tuple(getattr(library, name) for name in DECODING)
        self.decodes = isinstance(self.press, kinds) or getattr(self.press, "decoding", False) is True
        self.moves = isinstance(self.press, tuple(getattr(library, name) for name in MOVING))

    def compress(self, ids: Tensor) -> tuple[Tensor, HFPressed]:
        """Ids [1, T] of a new text → last hidden rows [1, T, E], and what the press left.

        kvpress sees positions in `cache_position`, which newer models no longer make themselves.
        """
        # buffers of one that compresses answers, too, belong to a request
        press = copy.deepcopy(self.press) if self.decodes else self.press
        held = HFPressed(press if self.decodes else None, warnings=list(self.warnings))
        places = torch.arange(ids.shape[1], device=ids.device)
        kernel = nullcontext() if self.runner.sdpa is None else sdpa_kernel(self.runner.sdpa)
        with _heard() as said, self._under(held), kernel, _named(press), press(self.model):
            rows = self._forward(ids, held, places, THEIRS)
        held.position = held.cache.get_seq_length() if self.moves else ids.shape[1]
        held.warnings += said
        return rows, held

    def go_on(self, ids: Tensor, held: HFPressed) -> Tensor:
        """Ids [1, T] that follow → last hidden rows [1, T, E].

        Tokens go one by one where layers hold different numbers of keys: transformers makes one mask for all layers.
        """
        even = len(set(held.lengths())) == 1
        return torch.cat([self._one_on(x, held) for x in ids.split(ids.shape[1] if even else 1, 1)], 1)

    def step(self, token: Tensor, held: HFPressed) -> Tensor:
        """The same for one token of an answer, [1, 1], in a cache with room for more."""
        give_room(held.cache)
        return self._one_on(token, held)

    def _one_on(self, ids: Tensor, held: HFPressed) -> Tensor:
        """One forward of ids that follow."""
        places = torch.arange(held.position, held.position + ids.shape[1], device=ids.device)
        with self._under(held), self._hooked(held.press):
            rows = self._forward(ids, held, places, CACHE)
        held.position += ids.shape[1]
        return rows

    def _forward(self, ids: Tensor, held: HFPressed, places: Tensor, name: str) -> Tensor:
        positions = {"position_ids": places[None], "cache_position": places}
        output = self.model.base_model(input_ids=ids, use_cache=True, **positions, **{name: held.cache})
        rows: Tensor = output.last_hidden_state
        return rows.to(self.runner.device)

    @contextmanager
    def _under(self, held: HFPressed) -> Iterator[None]:
        """What a press finds and leaves in attention modules is there inside only; `held` knows it between."""
        modules = {layer.self_attn.layer_idx: layer.self_attn for layer in self.model.base_model.layers}
        rotary = {i for i, module in modules.items() if hasattr(module, "rotary_emb")}
        for i, places in held.masked.items():
            setattr(modules[i], MASK, places)
        with ExitStack() as stack, warnings.catch_warnings():
            # transformers renames what kvpress calls by its old name
            warnings.simplefilter("ignore", FutureWarning)
            for context in (_wrapped(), attention(self.model, "sdpa"), swapped(self.runner.rope)):
                stack.enter_context(context)
            try:
                yield
            finally:
                held.masked = {i: x for i, m in modules.items() if (x := vars(m).pop(MASK, None)) is not None}
                for i in modules.keys() - rotary:
                    if hasattr(modules[i], "rotary_emb"):
                        del modules[i].rotary_emb

    @contextmanager
    def _hooked(self, press: Any) -> Iterator[None]:
        """Attention modules inside end with the hook of a press, if there is one."""
        if press is None:
            yield
            return
        with _named(press), ExitStack() as stack:
            for layer in self.model.base_model.layers:
                hook = layer.self_attn.register_forward_hook(press.forward_hook, with_kwargs=True)
                stack.callback(hook.remove)
            yield


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What kvpress logs inside, each line once; nothing of it is printed."""
    logger, said = logging.getLogger("kvpress"), dict[str, None]()
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.setdefault(" ".join(record.getMessage().split()))  # type: ignore[method-assign]
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
        found += said


@contextmanager
def _named(press: Any) -> Iterator[None]:
    """The hook of a press inside finds the cache by its old name."""
    hook = press.forward_hook

    def renamed(module: Any, args: Any, named: dict[str, Any], output: Any) -> Any:
        return hook(module, args, {THEIRS: named[CACHE], **named}, output)

    press.forward_hook = renamed
    try:
        yield
    finally:
        del press.forward_hook
