"""`pcbench.answer`: one question to one long text, by any method."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from pcbench import ops
from pcbench.config import validate
from pcbench.harness.decoding import decode
from pcbench.measure.timing import timed
from pcbench.models.catalog import end_ids
from pcbench.models.runner import HFRunner
from pcbench.models.support import check_supported, read_spec
from pcbench.models.tokens import HFTokenizer
from pcbench.registry import METHODS, load
from pcbench.types import DeviceKind, Prompt, no_stages

__all__ = ["Answer", "answer"]


@dataclass(frozen=True)
class Answer:
    """What came out.

    Args:
        text: the greedy continuation.
        kept_chunks: numbers of the kept chunks in reading order; None for a method without chunks.
        prefill_ms: from token ids to the logits of the first answer token.
        decode_ms: of each later token.
    """

    text: str
    kept_chunks: list[int] | None
    prefill_ms: float
    decode_ms: list[float]


def answer(
    model: Any,
    tokenizer: Any,
    *,
    context: str,
    question: str,
    method: str = "parallel_comp",
    backend: str = "auto",
    new_tokens: int = 64,
    **config: Any,
) -> Answer:
    """Answers a question about a text.

    Args:
        model: a Hugging Face `*ForCausalLM` on its device; it is used as it is and not changed.
        tokenizer: its tokenizer.
        context: the text; question: what follows it, up to where the answer starts.
        method: a name of `pcbench list methods`.
        backend: auto (the compiled backend of the device) or a name of `pcbench.ops.backend`.
        new_tokens: tokens of the answer at most, ≥ 1.
        **config: the method's parameters, as in a suite's `[cell.config]`.

    Returns:
        The answer with the kept chunks and timings.

    Raises:
        ConfigError: an unknown method or parameter, an unsupported model, a query that does not fit.
        BackendUnavailable: the backend cannot run here.
    """
    kind = load(METHODS, "method", method, "answer: method")
    check_supported(type(model).__name__, model.config)
    parameters = sum(p.numel() for p in model.parameters())
    read, tokens = read_spec(type(model).__name__, model.config, parameters), HFTokenizer(tokenizer)
    spec = replace(read, eos_ids=end_ids(read.eos_ids, model.generation_config.eos_token_id, tokens.end_id))
    device: DeviceKind = "cpu" if model.device.type == "cpu" else "rocm" if torch.version.hip else "cuda"
    compiled = ops.compiled_backend(device) if backend == "auto" else backend
    runner = HFRunner(model, spec, tokens, ops.backend("reference" if kind.backends == ("torch",) else compiled))
    runner.verify()
    settings = validate(kind.Config, config, f"answer: {method}").resolve(spec, device)
    ids = (runner.tokenizer.start_ids, runner.tokenizer.encode(context), runner.tokenizer.encode(question))
    prompt = Prompt(*(torch.tensor(x, dtype=torch.int64, device=model.device) for x in ids), new_tokens=new_tokens)
    with torch.inference_mode():
        made = kind(settings, runner)
        prefilled, ms = timed(lambda: made.prefill(prompt, no_stages), model.device)
        answered = decode(made, prefilled, new_tokens, spec.eos_ids, model.device)
    kept = prefilled.kept_chunks
    return Answer(
        text=runner.tokenizer.decode(answered.tokens),
        kept_chunks=None if kept is None else kept.tolist(),
        prefill_ms=ms,
        decode_ms=answered.step_ms,
    )
