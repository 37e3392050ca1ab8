"""What `pcbench.attach` returns: a model whose forward is a method's, until it is detached."""

import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from pcbench.errors import ConfigError
from pcbench.models.attach.cache import RequestCache
from pcbench.models.attach.rows import BatchRows, read_rows
from pcbench.models.interface import CACHE, Call, planned
from pcbench.models.runner import HFRunner
from pcbench.types import AttentionPlan

__all__ = ["ROOM", "Attached", "Planned", "Sizes"]

# rows of room a segment is given for tokens that follow; the store takes more as it needs them
ROOM = 64


@dataclass(frozen=True)
class Sizes:
    """What the last request held after its last forward.

    Args:
        bytes: of its keys and values, and of the attention that evictions go by, with the room for later tokens.
        full_bytes: that the model's own cache would hold, padding with it.
        tokens: keys of each batch row, layer and kv-head: `tokens[row][layer][head]`.
        warnings: of what did not run on kernels.
    """

    bytes: int
    full_bytes: int
    tokens: list[list[list[int]]]
    warnings: list[str]


class Attached:
    """A model with a method inside.

    Args:
        method: its name.
        runner: the model.
    """

    def __init__(self, method: str, runner: HFRunner) -> None:
        self.method, self.runner = method, runner
        self.model: Any = runner.model
        # an instance may have a forward of its own, as where it lies on several devices
        self.own: Callable[..., Any] | None = vars(self.model).get("forward")
        self.original = self.model.forward
        self.signature = inspect.signature(self.original)
        self.held: Callable[[], Sizes] | None = None
        # the model's config says for all threads by what it attends
        self.lock = threading.RLock()

        @functools.wraps(self.original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            with self.lock:
                return self._forward(*args, **kwargs)

        def copied(memo: dict[int, Any]) -> NoReturn:
            # the forward of the copy would be this model's, weights and all
            raise ConfigError(
                f"attach: a model without a method to copy, got one with {method} attached; detach it, copy it, and "
                "attach to both"
            )

        forward.attached = self  # type: ignore[attr-defined]
        self.model.__deepcopy__ = copied
        self.model.forward = self.ours = forward

    def detach(self) -> None:
        """Makes the model what it was; a second time does nothing.

        Raises:
            ConfigError: something else has replaced its forward since.
        """
        if self.ours is None:
            return
        if vars(self.model).get("forward") is not self.ours:
            raise ConfigError(
                f"detach: the forward of {self.method}, got one that was put around it since; take that off first"
            )
        if self.own is None:
            del self.model.forward
        else:
            self.model.forward = self.own
        del self.model.__deepcopy__
        self.ours = self.held = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def report(self) -> Sizes:
        """Sizes of the last request; waits for the device.

        Raises:
            ConfigError: nothing has been cached since the method was attached, or the cache is the model's own.
        """
        if self.held is None:
            raise ConfigError("report: a request that was read, got none; call model.generate first")
        return self.held()

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.original(*args, **kwargs)


class Planned(Attached):
    """A model whose attention is a plan's wherever it would cache, and whose cache is a `RequestCache`."""

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        named = self._named(args, kwargs)
        name = "past_key_values" if named.get("past_key_values") is not None else CACHE
        given = named.get(name)
        tokens = next((named[x] for x in ("input_ids", "inputs_embeds") if named.get(x) is not None), None)
        # of no tokens its own code says what it says
        if tokens is None or tokens.ndim < 2 or not tokens.shape[1]:
            return self.original(*args, **kwargs)
        if not self._caches(given, named.get("use_cache")):
            return self._uncached(named, tokens)
        self._check(named)
        cache = self._checked(given, named)
        rows = read_rows(tokens, named.get("attention_mask"), named.get("position_ids"), cache)
        plan: AttentionPlan
        with self._recording(cache):
            if cache is None:
                cache, plan = self._begin(rows)
            else:
                plan = cache.plan
            call = self._call(plan, cache)
            with cache.reading(rows.lengths), planned(self.model, call):
                output = self.original(**named | {name: cache, "position_ids": self._positions(rows)})
        if given is not None and given is not cache:
            given.is_taken = True
        self.held = self._sizes(cache)
        return output

    def _caches(self, given: Any, use: bool | None) -> bool:
        """Whether a forward with this cache and `use_cache` caches."""
        return given is not None or (getattr(self.model.config, "use_cache", True) if use is None else use)

    def _uncached(self, named: dict[str, Any], tokens: Tensor) -> Any:
        """A forward that caches nothing."""
        return self.original(**named)

    def _check(self, named: Mapping[str, Any]) -> None:
        """Refuses what the method cannot do.

        Raises:
            ConfigError: attention weights are asked for.
        """
        if named.get("output_attentions"):
            raise ConfigError("attach: attention without weights, got output_attentions; leave it out")

    def _recording(self, cache: RequestCache | None) -> AbstractContextManager[Any]:
        """Around a forward that goes on from `cache`: whether it can be differentiated."""
        return torch.no_grad()

    def _begin(self, rows: BatchRows) -> tuple[RequestCache, AttentionPlan]:
        """What a prompt is read by, and where it is kept."""
        raise NotImplementedError

    def _positions(self, rows: BatchRows) -> Tensor:
        """[B, T] int64, what the model's rotary embedding is told."""
        return rows.positions

    def _named(self, args: Any, kwargs: Any) -> dict[str, Any]:
        """Arguments by their names."""
        bound = self.signature.bind(*args, **kwargs)
        more = [p.name for p in self.signature.parameters.values() if p.kind is p.VAR_KEYWORD]
        named = dict(bound.arguments)
        for rest in [named.pop(x, {}) for x in more]:
            named |= rest
        return named

    def _call(self, plan: AttentionPlan, cache: RequestCache | None) -> Call:
        runner = self.runner
        return Call(plan, cache, runner.ops, runner.device, runner.dtype)

    def _checked(self, cache: Any, named: Mapping[str, Any]) -> RequestCache | None:
        """The cache to go on from; None where there is nothing in it."""
        if isinstance(cache, RequestCache) and cache.owner is self:
            if not cache.is_whole:
                raise ConfigError(
                    "attach: a cache whose last forward came to its end, got one that was stopped in it; start without "
                    "a cache"
                )
            return cache
        if cache is None:
            return None
        if type(cache) is DynamicCache and not cache.offloading and not cache.get_seq_length():
            # a mask or positions say how much was read before
            said = any(named.get(x) is not None for x in ("attention_mask", "position_ids"))
            if getattr(cache, "is_taken", False) and not said:
                raise ConfigError(
                    "attach: the cache that the last forward returned, got the empty one that it was given; go on from "
                    "that of its output"
                )
            return None
        raise ConfigError(
            f"attach: no cache, an empty DynamicCache or one of this model since {self.method} was attached, "
            f"got {type(cache).__name__}; leave it out"
        )

    def _sizes(self, cache: RequestCache) -> Callable[[], Sizes]:
        """The sizes as they are now, read when somebody asks; the cache itself is not kept for it."""
        lengths, held, spec, warnings = list(cache.lengths), cache.nbytes(), self.runner.spec, cache.warnings
        full = spec.kv_bytes(cache.tokens * cache.shape[0], self.runner.dtype.itemsize)
        return lambda: Sizes(held, full, torch.stack([x.cpu() for x in lengths], 1).tolist(), warnings)
