"""Questions about one document, whose answers are told as they are made: what `pcbench ask` does."""

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from pcbench import ops
from pcbench.config import attention_of, validate
from pcbench.errors import ConfigError, PcbenchError
from pcbench.harness.answers import Chunk, read_chunks
from pcbench.harness.asked import Asked, check_known
from pcbench.harness.kinds.called import called
from pcbench.harness.kinds.methods.decoding import Answered, decode
from pcbench.harness.kinds.methods.finite import require_finite
from pcbench.measure.machine.devices import Build, resolve_device, torch_device
from pcbench.measure.memory import Phases, is_out_of_memory
from pcbench.measure.timing import timed
from pcbench.models import load_runner, model_spec
from pcbench.models.quiet import quietly
from pcbench.registry import METHODS, load
from pcbench.tasks import load_task
from pcbench.tasks.official.fitting import start_count
from pcbench.tasks.official.reading import filled
from pcbench.types import Prefilled, Prompt, Tokenizer, no_stages

__all__ = ["Conversation", "Reply", "Wanted"]

# whose words stand around a document and a question
TASK = "longbench/multifieldqa_en"
# what a tokenizer decodes the first bytes of a letter to, of which it has at most four
BEGUN = re.compile("\N{REPLACEMENT CHARACTER}{1,3}$")

Before = Literal["read", "reused", "read again"]


@dataclass(frozen=True)
class Wanted:
    """How questions are to be answered.

    Args:
        model: a name of `pcbench list models`, a Hugging Face id or a path.
        method: a name of `pcbench list methods`.
        device: auto, cpu, cuda or rocm.
        settings: the method's parameters, as in a suite's `[cell.config]`.
        new_tokens: tokens of an answer at most.
        chat: the model's chat template stands around the prompt, where it has one.
        several: there may be more questions than one: what stands before a question is read once, if the method can.
    """

    model: str
    method: str
    device: str = "auto"
    settings: dict[str, Any] = field(default_factory=dict)
    new_tokens: int = 128
    chat: bool = True
    several: bool = False


@dataclass(frozen=True)
class Reply:
    """An answer, and what it took.

    Args:
        question, text: what was asked and what came out.
        new_tokens: of the answer, the one that ended it included; ended: by itself, not by the limit.
        prompt_tokens: template, document and question.
        document: "read", "reused" (its keys were stored), or "read again" (the question has a say in it).
        chunks: all of them in reading order, None for a method without; kept: of those that were kept (number, first
            words).
        kept_tokens: keys that the answer was read over, mean over layers and heads: of template and document, and of
            the question too where a method evicts among its tokens.
        prefill_ms: from token ids to the logits of the first answer token; decode_ms: of all later tokens.
        kv_bytes: of the stored keys and values.
        peak_bytes: on a GPU the allocator's peak with the weights, on a CPU how far memory grew since the model was
            loaded; None where the system does not say.
        warnings: what the method changed.
    """

    question: str
    text: str
    new_tokens: int
    ended: bool
    prompt_tokens: int
    document: Before
    chunks: list[Chunk] | None
    kept: list[tuple[int, str]] | None
    kept_tokens: float
    prefill_ms: float
    decode_ms: float
    kv_bytes: int
    peak_bytes: int | None
    warnings: list[str]


class Conversation:
    """A document, a model and a method.

    Args:
        document: its text.
        wanted: the rest.

    Raises:
        ConfigError: an unknown method, parameter or model, or one that is not supported.
        DataMissing: the model, or a file of the method, is not there.
        BackendUnavailable: the device is not there.
    """

    def __init__(self, document: str, wanted: Wanted) -> None:
        kind = load(METHODS, "method", wanted.method, "--method")
        config = validate(kind.Config, wanted.settings, f"--set: {wanted.method}")
        device = resolve_device(wanted.device, Build.here())
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        own = ops.automatic_backend(device, model_spec(wanted.model).head_dim)
        backend = "reference" if kind.backends == ("torch",) else own
        found = ops.backend(backend, attention_of(config))
        self.runner = load_runner(wanted.model, torch_device(device), dtype, found)
        resolved = called(wanted.method, "resolve", lambda: config.resolve(self.runner.spec, device))
        self.method, self.wanted, self.document = kind(resolved, self.runner), wanted, document
        # a tokenizer says that a document is longer than its model was trained for
        with quietly():
            ids, starts = self.runner.tokenizer.encode_with_starts(document)
        check_known("document", ids, self.runner.spec.vocab)
        self.context = torch.tensor(ids, dtype=torch.int64, device=self.runner.device)
        self.starts = starts
        self.read: Any | None = None
        self.answered = 0
        self.phases = _phases(self.runner.device)

    def answer(self, question: str, say: Callable[[str], None]) -> Reply:
        """Answers a question.

        Args:
            question: not empty.
            say: told the answer piece by piece, as its tokens are made.

        Raises:
            ConfigError: the question is none, or too long.
            NotFinite: a logit is NaN or infinite.
            PcbenchError: there is too little memory.
        """
        asked = self._asked(question)
        before: Before = "reused" if self.read is not None else "read again" if self.answered else "read"
        name = f"ask: {self.wanted.method} on {self.runner.spec.name}"
        streamed = Streamed(self.runner.tokenizer, say)
        try:
            with torch.inference_mode(), self.phases("answer") if self.phases else nullcontext():
                prefilled, ms = timed(lambda: self._prefill(asked.prompt), self.runner.device)
                answered = self._decoded(prefilled, asked.prompt, streamed)
                again = lambda: self._decoded(self._prefill(asked.prompt), asked.prompt, lambda _: False)  # noqa: E731
                require_finite(name, self.runner, prefilled, answered, again)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            tokens = asked.prompt.context_tokens
            raise PcbenchError(
                f"{name}: memory for {tokens:,} tokens, got too little; let --method or --set keep fewer, or read "
                "smaller chunks"
            ) from error
        streamed.finish(answered.tokens)
        self.answered += 1
        return self._reply(question, asked, prefilled, answered, ms, before)

    def _asked(self, question: str) -> Asked:
        task, tokenizer, device = load_task(TASK, "ask"), self.runner.tokenizer, self.runner.device
        if not question.strip():
            raise ConfigError("ask: a question, got an empty one; ask something")
        try:
            question.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"ask: a question in UTF-8, got half a letter at {error.start}; type it once more"
            ) from None
        before, after = task.instruction, filled(task.question, {"input": question}, "ask")
        wrapped = tokenizer.chat(before, after) if self.wanted.chat else None
        start = [] if wrapped else tokenizer.start_ids
        before, after = wrapped or (before, after)
        ids = [*start, *tokenizer.encode(before)], tokenizer.encode(after)
        for part in ids:
            check_known("question", part, self.runner.spec.vocab)
        prefix, query = (torch.tensor(part, dtype=torch.int64, device=device) for part in ids)
        prompt = Prompt(
            prefix,
            self.context,
            query,
            new_tokens=self.wanted.new_tokens,
            start_tokens=start_count(tokenizer, ids[0]) if wrapped else len(start),
            characters=self.starts,
        )
        bounds = None if self.starts is None else [0, *self.starts[1:], len(self.document)]
        return Asked(prompt, 0, bounds)

    def _prefill(self, prompt: Prompt) -> Prefilled:
        """From what was read before, where a method can and more questions than one are expected."""
        if self.read is None and self.wanted.several and hasattr(self.method, "read_context"):
            self.read = self.method.read_context(prompt, no_stages)
        if self.read is None:
            return self.method.prefill(prompt, no_stages)
        return self.method.ask(self.read, prompt, no_stages)

    def _decoded(self, prefilled: Prefilled, prompt: Prompt, heard: Callable[[list[int]], bool]) -> Answered:
        runner = self.runner
        return decode(self.method, prefilled, prompt.new_tokens, runner.spec.eos_ids, runner.device, is_whole=heard)

    def _reply(
        self, question: str, asked: Asked, prefilled: Prefilled, answered: Answered, prefill_ms: float, before: Before
    ) -> Reply:
        chunks, prompt = read_chunks(asked, prefilled), asked.prompt
        kept = None if chunks is None else [(i, self._first_words(x)) for i, x in enumerate(chunks) if x.kept]
        return Reply(
            question=question,
            text=self.runner.tokenizer.decode(answered.tokens),
            new_tokens=len(answered.tokens),
            ended=answered.ended,
            prompt_tokens=prompt.context_tokens - prompt.new_tokens,
            document=before,
            chunks=chunks,
            kept=kept,
            kept_tokens=prefilled.kept_tokens(),
            prefill_ms=prefill_ms,
            decode_ms=sum(answered.step_ms),
            kv_bytes=prefilled.kv_bytes,
            peak_bytes=self.phases and self.phases.peak,
            warnings=prefilled.warnings,
        )

    def _first_words(self, chunk: Chunk, words: int = 6) -> str:
        start, end = chunk.tokens
        if chunk.characters is None:
            text = self.runner.tokenizer.decode(self.context[start : min(end, start + 4 * words)].tolist())
        else:
            first, last = chunk.characters
            text = self.document[first : min(last, first + 40 * words)]
        return " ".join(text.split()[:words])


@dataclass
class Streamed:
    """Says an answer as its tokens are made, without what is white around it.

    White space at its end, and a letter of which tokens have made only a part, wait for what follows.

    Args:
        tokenizer: of the tokens.
        say: takes the pieces.
        said: all of them so far.
    """

    tokenizer: Tokenizer
    say: Callable[[str], None]
    said: str = ""

    def __call__(self, tokens: Sequence[int]) -> bool:
        """Takes all tokens so far; never ends an answer."""
        self._go_on(BEGUN.sub("", self.tokenizer.decode(tokens)).strip())
        return False

    def finish(self, tokens: Sequence[int]) -> None:
        """Takes all tokens; where they changed what was said, all of it is said once more on a line of its own."""
        text = self.tokenizer.decode(tokens).strip()
        if not text.startswith(self.said):
            self.say("\n")
            self.said = ""
        self._go_on(text)

    def _go_on(self, text: str) -> None:
        if text != self.said and text.startswith(self.said):
            self.say(text[len(self.said) :])
            self.said = text


def _phases(device: torch.device) -> Phases | None:
    """What watches memory; None where the system does not say."""
    try:
        return Phases(device)
    except PcbenchError:
        return None
