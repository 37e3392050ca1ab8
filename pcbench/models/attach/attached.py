"""`pcbench.attach`: a model's own forward, with a method's attention, cache or positions in it."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch

from pcbench import ops
from pcbench.config import attention_of, validate
from pcbench.errors import BackendUnavailable, ConfigError, DataMissing, unknown_name
from pcbench.methods.dual_chunk import DualChunk
from pcbench.methods.eviction import Eviction
from pcbench.methods.rope_scaling import RopeScaling
from pcbench.models.attach.dual import DualChunked
from pcbench.models.attach.evicting import Evicting
from pcbench.models.attach.given import check_eval, check_model, device_kind, evaluated, given_spec
from pcbench.models.attach.handle import Attached
from pcbench.models.attach.scaled import Scaled
from pcbench.models.runner import HFRunner
from pcbench.models.tokens import ByteTokenizer
from pcbench.registry import METHODS, OWN_METHODS, load
from pcbench.types import DeviceKind, ModelSpec

__all__ = ["attach"]


def attach(model: Any, method: str = "snapkv", *, backend: str = "auto", **config: Any) -> Attached:
    """Puts a method into a model: `model.generate(...)` and `model(...)` are the method's from then on.

    Eviction methods: a forward that would fill an empty cache reads a prompt: exact attention, after which every layer
    keeps its budgets. Forwards that go on from there attend to what stayed and to each other; single tokens displace
    others where the method evicts while it decodes, several at once (a further question) stay. Forwards that cache
    nothing are the model's own, and nothing is differentiated in the others. With `prefill_chunk_size` the first chunk
    is the prompt.

    Dual chunk attention: every forward, with a cache or without. Forwards without earlier tokens can be
    differentiated, in train mode too, where nothing is cached unless `use_cache=True` says so: attention runs on the
    reference, its scores a block of queries at a time and made again in the backward pass. Forwards that go on from a
    cache are not differentiated. Beam search and assistants work, as every token is kept.

    Scaled rotary frequencies: the model's own attention and cache, with other rotary modules.

    Prompts of a batch are padded at the left; what is not cached may be padded at the right.

    Args:
        model: a Hugging Face `*ForCausalLM` on its device, of eviction methods in eval mode; it is held once against
            its own plain forward.
        method: a name of `pcbench list methods`, of a method that evicts tokens or changes positions.
        backend: auto (the compiled backend of the device) or a name of `pcbench.ops.backend`.
        **config: the method's parameters, as in a suite's `[cell.config]`, without `compress`.

    Returns:
        The handle: `report()` says what the last request holds; `detach()`, or the end of a `with`, makes the model
        what it was.

    Raises:
        ConfigError: an unknown method or parameter, one that cannot be attached, a model that is none, not supported,
            in train mode or has a method attached.
        DataMissing: the method needs a table of the model; the message holds the command that makes it.
        NotFinite: the model's own logits hold NaN or infinity.
        BackendUnavailable: the backend cannot run here, or not with the model's dtype or head dim.
    """
    check_model(model, "attach")
    if method.isidentifier() and method not in METHODS:
        raise unknown_name("attach: method", "method", method, _ready(given_spec(model), device_kind(model)))
    kind = load(METHODS, "method", method, "attach: method")
    handle = _handle(kind)
    if handle is None:
        raise ConfigError(f"attach: method: one of {', '.join(_attachable())}, got {method}; name one of them")
    if "compress" in config:
        raise ConfigError("attach: compress: nothing, as the first forward is compressed, got a value; leave it out")
    if handle is Evicting:
        check_eval(model)
    checked = validate(kind.Config, config, f"attach: {method}")
    # positions that repeat never reach the length at which frequencies would move
    spec, device = given_spec(model, dynamic=handle is DualChunked), device_kind(model)
    compiled = ops.automatic_backend(device, spec.head_dim) if "ops" in kind.backends else "reference"
    chosen = compiled if backend == "auto" else backend
    runner = HFRunner(model, spec, ByteTokenizer(), ops.backend(chosen, attention_of(checked)))
    reason = ops.why_not(chosen, head_dim=spec.head_dim, dtype=runner.dtype)
    if reason:
        raise BackendUnavailable(f'attach: {reason}; backend="reference" takes any', {chosen: reason})
    # autocast would round what the model is held against
    with evaluated(model), torch.autocast(model.device.type, enabled=False):
        runner.verify()
        return handle(method, checked.resolve(spec, device), runner)  # type: ignore[no-any-return]


def _handle(kind: Any) -> Any:
    """How a method is put into a model; None where it cannot be."""
    if not isinstance(kind, type):
        return None
    # all that its policy says of a model's own forward
    own = issubclass(kind, Eviction) and not kind.prunes
    if own and (kind.prefill, kind.step) == (Eviction.prefill, Eviction.step):
        return Evicting
    return {DualChunk: DualChunked, RopeScaling: Scaled}.get(kind)


def _ready(spec: ModelSpec, device: DeviceKind) -> Iterator[str]:
    """Names of methods that can be attached to a model without more: one may lack a table of it."""
    for name in _attachable():
        with suppress(DataMissing):
            load(METHODS, "method", name, "attach: method").Config().resolve(spec, device)
            yield name


def _attachable() -> list[str]:
    return [name for name in OWN_METHODS if _handle(load(METHODS, "method", name, "attach: method"))]
