"""`pcbench.attach`: a model's own forward, with a method's attention and cache wherever it would cache."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from transformers.cache_utils import DynamicCache

from pcbench import ops
from pcbench.config import validate
from pcbench.errors import ConfigError, DataMissing, unknown_name
from pcbench.methods.eviction import Eviction, EvictionConfig, PolicyConfig
from pcbench.methods.eviction.plan import PromptPlan, StoredPlan
from pcbench.models.attach.cache import RequestCache
from pcbench.models.attach.given import check_model, device_kind, given_spec
from pcbench.models.attach.rows import BatchRows, LeftPadded, read_rows
from pcbench.models.interface import CACHE, Call, planned
from pcbench.models.runner import HFRunner
from pcbench.models.tokens import ByteTokenizer
from pcbench.registry import METHODS, OWN_METHODS, load
from pcbench.types import AttentionPlan, DeviceKind, ModelSpec, no_stages

__all__ = ["Attached", "Sizes", "attach"]

# rows of room a segment is given for tokens that follow; the store takes more as it needs them
ROOM = 64


@dataclass(frozen=True)
class Sizes:
    """What the last request held after its last forward.

    Args:
        bytes: of its keys and values, and of the attention that evictions go by, with the room for later tokens.
        full_bytes: that the model's own cache would hold, padding with it.
        tokens: keys of each batch row, layer and kv-head: `tokens[row][layer][head]`.
    """

    bytes: int
    full_bytes: int
    tokens: list[list[list[int]]]


def attach(model: Any, method: str = "snapkv", *, backend: str = "auto", **config: Any) -> "Attached":
    """Puts an eviction method into a model: `model.generate(...)` and `model(...)` cache what the method keeps.

    A forward that would fill an empty cache reads a prompt: exact attention, after which every layer keeps its
    budgets. Forwards that go on from there attend to what stayed and to each other; single tokens displace others
    where the method evicts while it decodes, several at once (a further question) stay. Prompts of a batch are padded
    at the left. Forwards that cache nothing are the model's own, and nothing is differentiated in the others. With
    `prefill_chunk_size` the first chunk is the prompt.

    Args:
        model: a Hugging Face `*ForCausalLM` in eval mode on its device; it is held once against its own plain forward.
        method: a name of `pcbench list methods`, of a method that evicts tokens.
        backend: auto (the compiled backend of the device) or a name of `pcbench.ops.backend`.
        **config: the method's parameters, as in a suite's `[cell.config]`, without `compress`.

    Returns:
        The handle: `detach()`, or the end of a `with`, makes the model what it was.

    Raises:
        ConfigError: an unknown method or parameter, one that cannot be attached, a model that is none, not supported,
            in train mode or has a method attached.
        NotFinite: the model's own logits hold NaN or infinity.
        BackendUnavailable: the backend cannot run here.
    """
    check_model(model, "attach")
    if method.isidentifier() and method not in METHODS:
        raise unknown_name("attach: method", "method", method, _ready(given_spec(model), device_kind(model)))
    kind = load(METHODS, "method", method, "attach: method")
    if not _evicts(kind):
        raise ConfigError(f"attach: method: one of {', '.join(_that_evict())}, got {method}; name one of them")
    if "compress" in config:
        raise ConfigError("attach: compress: nothing, as the first forward is compressed, got a value; leave it out")
    _check_eval(model)
    checked = validate(kind.Config, config, f"attach: {method}")
    spec, device = given_spec(model), device_kind(model)
    chosen = ops.compiled_backend(device) if backend == "auto" else backend
    runner = HFRunner(model, spec, ByteTokenizer(), ops.backend(chosen))
    runner.verify()
    return Attached(method, checked.resolve(spec, device), runner)


class Attached:
    """A model with a method inside.

    Args:
        method: its name.
        config: its resolved parameters.
        runner: the model.
    """

    def __init__(self, method: str, config: PolicyConfig, runner: HFRunner) -> None:
        self.method, self.config, self.runner = method, config, runner
        self.model: Any = runner.model
        # an instance may have a forward of its own, as where it lies on several devices
        self.own: Callable[..., Any] | None = vars(self.model).get("forward")
        self.original = self.model.forward
        self.signature = inspect.signature(self.original)
        self.held: Callable[[], Sizes] | None = None

        @functools.wraps(self.original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            return self._forward(*args, **kwargs)

        forward.attached = self  # type: ignore[attr-defined]
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
        self.ours = self.held = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def report(self) -> Sizes:
        """Sizes of the last request; waits for the device.

        Raises:
            ConfigError: nothing has been read since the method was attached.
        """
        if self.held is None:
            raise ConfigError("report: a request that was read, got none; call model.generate first")
        return self.held()

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        named = self._named(args, kwargs)
        name = "past_key_values" if named.get("past_key_values") is not None else CACHE
        given, use = named.get(name), named.get("use_cache")
        tokens = next((named[x] for x in ("input_ids", "inputs_embeds") if named.get(x) is not None), None)
        caches = given is not None or (getattr(self.model.config, "use_cache", True) if use is None else use)
        # of no tokens its own code says what it says
        if not caches or tokens is None or tokens.ndim < 2 or not tokens.shape[1]:
            return self.original(*args, **kwargs)
        _check_eval(self.model)
        if named.get("output_attentions"):
            raise ConfigError("attach: attention without weights, got output_attentions; leave it out")
        cache = self._checked(given)
        rows = read_rows(tokens, named.get("attention_mask"), named.get("position_ids"), cache)
        plan: AttentionPlan
        if cache is None:
            cache, plan = self._begin(rows)
        else:
            plan = cache.plan
        call = Call(plan, cache, self.runner.ops, self.runner.device)
        with torch.no_grad(), cache.reading(rows.lengths), planned(self.model, call):
            output = self.original(**named | {name: cache, "position_ids": rows.positions})
        self.held = self._sizes(cache)
        return output

    def _named(self, args: Any, kwargs: Any) -> dict[str, Any]:
        """Arguments by their names."""
        bound = self.signature.bind(*args, **kwargs)
        more = [p.name for p in self.signature.parameters.values() if p.kind is p.VAR_KEYWORD]
        named = dict(bound.arguments)
        for rest in [named.pop(x, {}) for x in more]:
            named |= rest
        return named

    def _checked(self, cache: Any) -> RequestCache | None:
        """The cache to go on from; None where there is nothing in it."""
        if isinstance(cache, RequestCache) and cache.owner is self:
            return cache
        if cache is None or (type(cache) is DynamicCache and not cache.offloading and not cache.get_seq_length()):
            return None
        raise ConfigError(
            f"attach: no cache, an empty DynamicCache or one of this model since {self.method} was attached, "
            f"got {type(cache).__name__}; leave it out"
        )

    def _begin(self, rows: BatchRows) -> tuple[RequestCache, AttentionPlan]:
        """What a prompt is read by, and what stays of it goes to."""
        spec, counts = self.runner.spec, rows.counts
        share = isinstance(self.config, EvictionConfig) and self.config.share
        if share and min(counts) < max(counts):
            raise ConfigError(
                f"attach: share: prompts of one length, got {min(counts)} to {max(counts)} tokens; give tokens instead"
            )
        tokens, lengths = self.config.tokens_of(max(counts)), torch.tensor(counts)
        policy, segments = self.config.policy(spec, tokens), []
        for layer in range(spec.layers):
            wanted = torch.tensor([policy.budgets(layer, spec, tokens, count) for count in counts])
            segments.append(policy.segments(layer, wanted, lengths, 0, ROOM))
        rotary = self.runner.rotary if policy.rotary else None
        cache = RequestCache(self, StoredPlan(policy, spec, rotary), segments, padded=rows.padded)
        plan = PromptPlan(policy, spec, segments, no_stages, rotary=rotary)
        if not rows.padded:
            return cache, plan
        here = rows.lengths.to(self.runner.device)
        return cache, LeftPadded(replace(plan, lengths=here), rows.positions.shape[1] - here.long())

    def _sizes(self, cache: RequestCache) -> Callable[[], Sizes]:
        """The sizes as they are now, read when somebody asks; the cache itself is not kept for it."""
        lengths, held, spec = list(cache.lengths), cache.nbytes(), self.runner.spec
        full = spec.kv_bytes(cache.tokens * cache.shape[0], self.runner.dtype.itemsize)
        return lambda: Sizes(held, full, torch.stack([x.cpu() for x in lengths], 1).tolist())


def _check_eval(model: Any) -> None:
    if model.training:
        raise ConfigError("attach: a model in eval mode, got one in train mode; call model.eval()")


def _evicts(kind: Any) -> bool:
    """Whether a method is all that its policy says of a model's own forward."""
    is_one = isinstance(kind, type) and issubclass(kind, Eviction)
    return is_one and not kind.prunes and (kind.prefill, kind.step) == (Eviction.prefill, Eviction.step)


def _ready(spec: ModelSpec, device: DeviceKind) -> Iterator[str]:
    """Names of methods that can be attached to a model without more: one may lack a table of it."""
    for name in _that_evict():
        with suppress(DataMissing):
            load(METHODS, "method", name, "attach: method").Config().resolve(spec, device)
            yield name


def _that_evict() -> list[str]:
    return [name for name in OWN_METHODS if _evicts(load(METHODS, "method", name, "attach: method"))]
