"""`pcbench.answer`: one question to one long text, by any method."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from pcbench import ops
from pcbench.config import attention_of, validate
from pcbench.errors import ConfigError
from pcbench.harness.asked import Asked, Ids, Spans, ask
from pcbench.harness.kinds.called import called
from pcbench.harness.kinds.methods.decoding import decode
from pcbench.harness.kinds.methods.finite import require_finite
from pcbench.measure.timing import timed
from pcbench.models.attach.given import check_model, device_kind, evaluated, given_spec
from pcbench.models.catalog import end_ids
from pcbench.models.runner import HFRunner
from pcbench.models.tokens import ByteTokenizer, HFTokenizer
from pcbench.registry import METHODS, load
from pcbench.types import DeviceKind, Prefilled, no_stages

__all__ = ["Answer", "Chunk", "answer", "read_chunks"]


@dataclass(frozen=True)
class Chunk:
    """A part of the context that was read by itself.

    Args:
        tokens: (start, end) in the context's ids.
        characters: (start, end) in the context's text, from where its first token begins to where the next chunk's
            does; None for a context of ids, or where the tokenizer cannot say.
        score: what the method ranks it by, a lower one keeps unless configured otherwise: nats per scored token; None
            where it has none.
        kept: whether the question was read over it.
    """

    tokens: tuple[int, int]
    characters: tuple[int, int] | None
    score: float | None
    kept: bool


@dataclass(frozen=True)
class Answer:
    """What came out.

    Args:
        text: the greedy continuation.
        ids: its token ids, the one that ended it included.
        chunks: all of them in reading order; None for a method without chunks.
        kept_tokens: keys of template and context that the answer was read over, mean over layers and heads; with those
            of the question where the method chose among them too, as eviction methods do with compress = prompt.
        prefill_ms: from token ids to the logits of the first answer token.
        decode_ms: of each later token.
        warnings: what the method changed, as where a chunk does not fit in the trained positions.
        logits: [len(ids), V] on the model's device in its dtype, row i chose ids[i]; None unless asked for.
    """

    text: str
    ids: list[int]
    chunks: list[Chunk] | None
    kept_tokens: float
    prefill_ms: float
    decode_ms: list[float]
    warnings: list[str]
    logits: Tensor | None = None

    @property
    def kept_chunks(self) -> list[int] | None:
        """Numbers of the kept chunks in reading order; None for a method without chunks."""
        return None if self.chunks is None else [i for i, chunk in enumerate(self.chunks) if chunk.kept]


def answer(
    model: Any,
    tokenizer: Any,
    *,
    context: str | Ids,
    question: str | Ids,
    chunks: Spans | None = None,
    method: str = "parallel_comp",
    backend: str = "auto",
    new_tokens: int = 64,
    return_logits: bool = False,
    **config: Any,
) -> Answer:
    """Answers a question about a text.

    The model is used as it is, whether or not its weights want gradients and in train mode too; afterwards it is as it
    was. Nothing here is differentiated.

    Args:
        model: a Hugging Face `*ForCausalLM` on its device.
        tokenizer: its tokenizer; what it puts in front of a text is read before every chunk. `pcbench.load_model`
            gives both.
        context: the text, or its token ids: a list, or an integer tensor or array [N] or [1, N]; not empty.
        question: what follows it, up to where the answer starts; text or ids.
        chunks: (start, end) of each chunk, which divide the context: in characters of a text, whose tokens belong to
            the chunk they begin in, else in the given ids. None lets the method divide it.
        method: a name of `pcbench list methods`.
        backend: auto (the compiled backend of the device) or a name of `pcbench.ops.backend`.
        new_tokens: tokens of the answer at most, ≥ 1.
        return_logits: `Answer.logits` holds those of every token of the answer.
        **config: the method's parameters, as in a suite's `[cell.config]`; presets go by the model's name or path.

    Returns:
        The answer with its chunks and timings.

    Raises:
        ConfigError: an unknown method or parameter, what is no model, no tokenizer or unsupported, an empty context, a
            question or a chunk that does not fit, chunks for a method without any.
        NotFinite: a logit is NaN or infinite.
        BackendUnavailable: the backend cannot run here.
    """
    _check_loaded(model, tokenizer)
    kind = load(METHODS, "method", method, "answer: method")
    _check_chunks(chunks, kind, config, method)
    with torch.inference_mode(), evaluated(model):
        checked = validate(kind.Config, config, f"answer: {method}")
        runner, device = _runner(model, tokenizer, kind, backend, attention_of(checked))
        settings = called(method, "resolve", lambda: checked.resolve(runner.spec, device))
        like: Any = {"vocab": runner.spec.vocab, "device": runner.device}
        asked = ask(runner.tokenizer, context, question, chunks, new_tokens, **like)
        recorded = Recorded(kind(settings, runner), [] if return_logits else None)
        limits = (asked.prompt.new_tokens, runner.spec.eos_ids, runner.device)
        prefilled, ms = timed(lambda: recorded.prefill(asked), runner.device)
        answered = decode(recorded, prefilled, *limits)
        rows, recorded.rows = recorded.rows, None
        again = lambda: decode(recorded, recorded.prefill(asked), *limits)  # noqa: E731
        require_finite("answer", runner, prefilled, answered, again)
        found = Answer(
            text=runner.tokenizer.decode(answered.tokens),
            ids=answered.tokens,
            chunks=read_chunks(asked, prefilled),
            kept_tokens=prefilled.kept_tokens(),
            prefill_ms=ms,
            decode_ms=answered.step_ms,
            warnings=prefilled.warnings,
        )
    # out here a copy is no tensor of inference mode, which autograd would refuse
    return replace(found, logits=None if rows is None else torch.cat(rows).clone())


def _check_loaded(model: Any, tokenizer: Any) -> None:
    """Refuses what is not of the two kinds, by what is read of them."""
    check_model(model, "answer")
    if isinstance(tokenizer, ByteTokenizer):
        return
    names = ("name_or_path", "eos_token_id", "bos_token_id", "is_fast", "decode")
    if not callable(tokenizer) or not all(hasattr(tokenizer, name) for name in names):
        raise ConfigError(
            f"answer: tokenizer: a tokenizer of Hugging Face, got {type(tokenizer).__name__}; load the model's own by "
            "AutoTokenizer"
        )


def _check_chunks(chunks: Spans | None, kind: Any, config: dict[str, Any], method: str) -> None:
    if chunks is None:
        return
    if "chunk_tokens" not in kind.Config.model_fields:
        raise ConfigError(f"answer: chunks: a method that reads chunks, got {method}; leave them out")
    if "chunk_tokens" in config:
        raise ConfigError("answer: chunks or chunk_tokens, got both; leave one out")


def _runner(model: Any, tokenizer: Any, kind: Any, backend: str, attention: str | None) -> tuple[HFRunner, DeviceKind]:
    read, device = given_spec(model), device_kind(model)
    tokens = tokenizer if isinstance(tokenizer, ByteTokenizer) else HFTokenizer(tokenizer)
    named = getattr(model.generation_config, "eos_token_id", None)
    spec = replace(read, eos_ids=end_ids(read.eos_ids, named, tokens.end_id))
    compiled = ops.automatic_backend(device, spec.head_dim) if backend == "auto" else backend
    chosen = "reference" if kind.backends == ("torch",) else compiled
    runner = HFRunner(model, spec, tokens, ops.backend(chosen, attention))
    runner.verify()
    return runner, device


@dataclass
class Recorded:
    """A method whose logits are kept, [1, V] each, in `rows` if there is a list."""

    method: Any
    rows: list[Tensor] | None = field(default=None)

    def prefill(self, asked: Asked) -> Prefilled:
        prefilled: Prefilled = self.method.prefill(asked.prompt, no_stages)
        self._keep(prefilled.logits)
        return prefilled

    def step(self, prefilled: Prefilled, token: Tensor) -> Tensor:
        logits: Tensor = self.method.step(prefilled, token)
        self._keep(logits)
        return logits

    def _keep(self, logits: Tensor) -> None:
        if self.rows is not None:
            self.rows.append(logits)


def read_chunks(asked: Asked, prefilled: Prefilled) -> list[Chunk] | None:
    """The chunks of a prefill in reading order; None for a method without chunks. Waits for the device."""
    if prefilled.spans is None:
        return None
    kept = set() if prefilled.kept_chunks is None else set(prefilled.kept_chunks.tolist())
    none = [math.nan] * len(prefilled.spans)
    scores = none if prefilled.chunk_scores is None else prefilled.chunk_scores.tolist()
    return [
        Chunk(asked.tokens(span), asked.characters(span), score if math.isfinite(score) else None, i in kept)
        for i, (span, score) in enumerate(zip(prefilled.spans, scores, strict=True))
    ]
