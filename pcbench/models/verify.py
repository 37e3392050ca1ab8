"""Whether a model read by chunks is the model: held, when it is loaded, against its own eager attention."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pcbench.errors import ConfigError, NotFinite, PcbenchError
from pcbench.models.finite import first_not_finite
from pcbench.models.float32 import NARROW, in_float32
from pcbench.models.interface import Seen, attention, witnessed
from pcbench.models.layers.quantize import is_quantised, plainly
from pcbench.models.stores.slots import SlotCache
from pcbench.models.support import beyond_a_plan, refusal
from pcbench.ops.no_memory import is_out_of_memory
from pcbench.reference import cached_attention, calibrated_attention
from pcbench.types import AttentionPlan, KVStore, Ops

if TYPE_CHECKING:
    from pcbench.models.runner import HFRunner

__all__ = ["verify"]

# tokens of two chunks, of the query behind the first of them, and decoding steps after it
CHUNKS, QUERY, STEPS = (9, 14), 5, 4
# of float32 logits, relative to their spread
BOUND = 1e-4


@torch.inference_mode()
def verify(runner: "HFRunner") -> None:
    """Holds chunks, query stage, decoding, chunk scores and the baseline against the model's own plain forward.

    Two chunks of unequal lengths go through the store in one left-aligned batch; a query reads the stored keys of the
    shorter one, and tokens are decoded behind it. The baseline prefills and decodes the same ids. Each step's logits
    must be those of one eager forward over the whole sequence without a cache, in float32: weights of 16 bits are
    widened a layer at a time, quantised ones multiplied as the numbers that they store. In 16 bits, or by the library
    that quantised them, it runs once more, for dtypes that do not fit and numbers that overflow.

    Raises:
        NotFinite: the model's own logits hold NaN or infinity.
        ConfigError: another result, or attention that a plan does not see: one line that names the model and why.
    """
    if runner.model.base_model is runner.model:
        raise refusal(runner.spec.name, runner.model.config, ["no decoder that can run without its head"])
    with in_float32(runner.model), plainly(runner.model):
        Check(runner, torch.float32, BOUND, STEPS).run()
    if is_quantised(runner.model) or any(x.dtype in NARROW for x in runner.model.parameters()):
        Check(runner, runner.dtype, math.inf, 1).run()


class Unseen(Exception):
    """What a model does that a plan or a store does not know of."""


class WatchedCache(SlotCache):
    """A store that remembers the keys and values it was given, for one forward."""

    given: dict[int, tuple[Tensor, Tensor]]

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """As the store; what it was given is kept beside.

        Raises:
            Unseen: the layer is not one of the model's.
        """
        if layer_idx in self.given or layer_idx not in range(len(self.k)):
            raise Unseen(f"a cache that numbers its {len(self.k)} layers otherwise")
        self.given[layer_idx] = key_states, value_states
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)


@dataclass
class Check:
    """One pass over a model in one dtype."""

    runner: "HFRunner"
    dtype: torch.dtype
    bound: float
    steps: int
    layers: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        capacity = max(*CHUNKS, QUERY + self.steps)
        self.store = WatchedCache(
            self.runner.spec, 3, capacity, evictions=False, dtype=self.dtype, device=self.runner.device
        )

    def run(self) -> None:
        """Raises ConfigError where anything differs."""
        try:
            ids = self._ids()
            truths = self._plain_logits(ids)
            self.by_chunks(ids, truths)
            self.baseline(ids[0], truths[0])
        except Unseen as error:
            raise refusal(self.runner.spec.name, self.runner.model.config, error.args) from error
        except PcbenchError:
            raise
        # what a model's own code raises is known only by running it
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ConfigError(
                f"--model: {self.runner.spec.name}: a decoder that runs from embeddings, positions and a cache, got "
                f"{_first_line(error)} from its own code; choose another model"
            ) from error

    def _ids(self) -> Tensor:
        """[2, T] int64: the first chunk, the query and the answer; the second chunk and what nobody reads."""
        generator = torch.Generator().manual_seed(0)
        shape = (2, CHUNKS[0] + QUERY + self.steps)
        return torch.randint(0, self.runner.spec.vocab, shape, generator=generator).to(self.runner.device)

    def _plain_logits(self, ids: Tensor) -> Tensor:
        """[2, T] → [2, T, V]: eager, whole sequences, no cache."""
        logits = self._own_forward(ids)
        if logits.isfinite().all():
            return logits
        model, layers = self.runner.model, self.runner.spec.layers
        part = first_not_finite(model, layers, lambda: self._own_forward(ids))
        first = f"first in the output of {part}" if part else "after finite outputs of every layer"
        raise NotFinite(
            f"--model: {self.runner.spec.name}: finite logits, got NaN or infinity, {first} in {str(self.dtype)[6:]}; "
            "look at its weights and its dtype"
        )

    def _own_forward(self, ids: Tensor) -> Tensor:
        with attention(self.runner.model, "eager"):
            logits: Tensor = self.runner.model(input_ids=ids, use_cache=False).logits
        return logits

    def by_chunks(self, ids: Tensor, truths: Tensor) -> None:
        """Both chunks through the store, then query and decoding behind the first, which lies in slot 1."""
        device, store = self.runner.device, self.store
        lengths = torch.tensor(CHUNKS, dtype=torch.int32, device=device)
        positions = torch.arange(ids.shape[1], device=device)
        store.begin(torch.tensor([1, 0], dtype=torch.int32, device=device))
        rows = ids[:, : CHUNKS[1]].clone()
        # behind a shorter chunk lies what no row may see
        rows[0, CHUNKS[0] :] = 0
        hidden = self._forward(rows, positions[: CHUNKS[1]].expand_as(rows), lengths, self._chunks)
        for row, truth, length in zip(hidden, truths, CHUNKS, strict=True):
            self._compare("chunks", self.runner.logits(row[:length]), truth[:length])
        rows, weights = self.runner.head_factors(hidden[0, : CHUNKS[0]])
        # the weights of a layer that is widened only while it runs are narrow here
        weights = weights.float() if self.dtype == torch.float32 else weights
        self._compare("chunk scores", rows @ weights.T, truths[0, : CHUNKS[0]])
        store.begin(torch.tensor([2], dtype=torch.int32, device=device))
        start = CHUNKS[0]
        for what, count in (("the query over stored keys", QUERY), *[("decoding", 1)] * self.steps):
            new = slice(start, start + count)
            lengths = torch.tensor([count], dtype=torch.int32, device=device)
            hidden = self._forward(ids[:1, new], positions[None, new], lengths, self._stored)
            self._compare(what, self.runner.logits(hidden[0]), truths[0, new])
            start += count

    def baseline(self, ids: Tensor, truth: Tensor) -> None:
        """Stock prefill and decoding with the model's own cache."""
        if not self.runner.model._supports_sdpa:
            raise Unseen("no SDPA attention, which the baseline is measured by")
        cache, start = None, CHUNKS[0] + QUERY
        for first, end in ((0, start), (start, start + 1), (start + 1, start + 2))[: 1 + self.steps]:
            logits, cache = self.runner.stock_forward(ids[None, first:end], cache)
            self._compare("its own SDPA attention", logits, truth[end - 1 : end])

    def _forward(self, ids: Tensor, positions: Tensor, lengths: Tensor, plan: AttentionPlan) -> Tensor:
        spec, self.layers, self.store.given = self.runner.spec, [], {}
        elsewhere = "attention that does not go through transformers' attention interface"
        try:
            with witnessed(self._see):
                hidden = self.runner.forward(ids, positions, lengths, self.store, plan)
        except (AttributeError, TypeError) as error:
            if self.layers:
                raise
            # it missed the mask that the interface leaves out
            raise Unseen(f"{elsewhere}: {_first_line(error)}") from error
        if not self.layers:
            raise Unseen(elsewhere)
        if self.layers != list(range(spec.layers)):
            raise Unseen(f"{spec.layers} layers of which the attention interface sees {self.layers}")
        return hidden

    def _see(self, seen: Seen) -> None:
        layer = getattr(seen.module, "layer_idx", None)
        self.layers.append(layer)
        reasons = [*beyond_a_plan(seen, self.runner.spec), *self._beyond_the_store(seen, layer)]
        if reasons:
            raise Unseen(*reasons)

    def _beyond_the_store(self, seen: Seen, layer: Any) -> Iterator[str]:
        given = self.store.given.get(layer)
        if given is None:
            yield "keys and values that do not go through its cache"
        elif not all(x is y or torch.equal(x, y) for x, y in zip(given, (seen.k, seen.v), strict=True)):
            yield "keys or values that change after they are cached"
        dtypes = {x.dtype for x in (seen.q, seen.k, seen.v)}
        if dtypes != {self.dtype}:
            yield f"queries, keys and values of {', '.join(sorted(str(x)[6:] for x in dtypes))}"

    def _chunks(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: KVStore, ops: Ops) -> Tensor:
        lengths = torch.tensor(CHUNKS, dtype=torch.int32, device=q.device)
        ragged = {"query_lengths": lengths, "key_lengths": lengths[:, None].expand(-1, k.shape[1]).contiguous()}
        return calibrated_attention(q, k, v, scale=self.runner.spec.scale, causal=True, **ragged)[0]

    def _stored(self, layer: int, q: Tensor, k: Tensor, v: Tensor, store: KVStore, ops: Ops) -> Tensor:
        rows, slots = store.rows(layer), torch.tensor([[1, 2]], dtype=torch.int32, device=q.device)
        return cached_attention(
            q, rows.k_rows, rows.v_rows, rows.starts, rows.lengths, slots,
            scale=self.runner.spec.scale, causal_last=True,
        )[0]  # fmt: skip

    def _compare(self, what: str, ours: Tensor, truth: Tensor) -> None:
        """[T, V] logits both: the largest error of a row, relative to how far its logits lie from their mean."""
        ours, truth = (x.double() - x.double().mean(-1, keepdim=True) for x in (ours, truth))
        error = float(((ours - truth).norm(dim=-1) / truth.norm(dim=-1)).max())
        if not error <= self.bound:
            raise ConfigError(
                f"--model: {self.runner.spec.name}: the logits of its own eager attention within {self.bound:g} from "
                f"{what}, got {error:.2g} beside them; this architecture is not supported"
            )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__} ({str(error).strip().partition(chr(10))[0]})"
