"""Serving engines: the prompts of a group, asked of a server or of another library's process, and held against full."""

from dataclasses import dataclass
from itertools import takewhile, zip_longest

from pcbench.engines import Completion, Engine, Loads, opened
from pcbench.errors import BadData, ConfigError, DataMissing, EngineError, EngineSlow, shown
from pcbench.harness.kinds import Say
from pcbench.harness.kinds.methods.engines.served import Served
from pcbench.harness.kinds.methods.lane import Lane
from pcbench.harness.kinds.methods.prompts import build_example
from pcbench.models.runner import HFRunner
from pcbench.tasks import Example
from pcbench.tasks.base import task_id
from pcbench.types import Sample, Tokenizer

__all__ = ["Read", "serve"]

AS_TEXT = "the engine tells no token ids: its answers were held against those of full attention as text"
UNKNOWN = "the engine does not tell how many tokens of a prompt it had cached"
TURN_OFF = "turn prefix caching off where the engine is started"


@dataclass(frozen=True)
class Read:
    """What is needed of a model that is loaded nowhere else meanwhile.

    Args:
        place: of its weights: a folder or a Hugging Face id.
        tokenizer: of its prompts; eos_ids: ends of its answers.
    """

    place: str
    tokenizer: Tokenizer
    eos_ids: tuple[int, ...]

    @classmethod
    def of(cls, runner: HFRunner) -> "Read":
        return cls(str(runner.model.config._name_or_path), runner.tokenizer, runner.spec.eos_ids)


def serve(lane: Lane, full: Lane, read: Read | None, say: Say) -> None:
    """Times an engine on the prompts that full attention was timed with; what goes wrong ends the lane.

    Of each prompt one token for the time to the first one, then the whole answer. Times count where no token of the
    prompt came out of a cache, and all answers must be those of full attention.

    Args:
        lane: of the engine.
        full: full attention's of the same group, finished.
        read: of the model; None where it could not be loaded.
        say: told what is being done.
    """
    cell = lane.prepared.cell
    assert cell.engine is not None, "a cell of an engine"
    if full.status != "ok" or read is None:
        reason = f"an engine's answers are held against those of full attention, which ended: {full.status}"
        lane.end("unsupported", reason)
        return
    prompts, tokens = len(full.samples_ms), cell.context_tokens
    assert tokens is not None, "a method reads a context"
    say(f"{cell.name}: {cell.engine}", cell.key)
    try:
        with opened(
            cell.engine, Loads(read.place, cell.dtype, tokens), lane.prepared.effort.engine_timeout_s
        ) as engine:
            lane.served = Served(engine.serving)
            # as a warm-up, a prompt that is asked nowhere else
            engine.complete(_ids(build_example(lane.prepared, read.tokenizer, cell.prompts)), 1)
            for i in range(prompts):
                say(f"{cell.name}: prompt {i + 1} of {prompts}", cell.key)
                example = build_example(lane.prepared, read.tokenizer, i)
                answer = _ask(engine, lane, example)
                _hold(lane, example, answer, full.answers[example.id], read)
    except EngineError as error:
        lane.end("timeout" if isinstance(error, EngineSlow) else "error", str(error))
    except DataMissing as error:
        lane.end("data_missing", str(error))
    except BadData as error:
        lane.end("error", str(error))
    except ConfigError as error:
        lane.end("unsupported", str(error))
    else:
        _judge(lane)


def _ids(example: Example) -> list[int]:
    return [*example.prefix, *example.context, *example.query]


def _ask(engine: Engine, lane: Lane, example: Example) -> Completion:
    """One prompt; its answer."""
    cell, served = lane.prepared.cell, lane.served
    assert served is not None, "the engine is there"
    ids = _ids(example)
    first = engine.complete(ids, 1)
    answer = engine.complete(ids, example.new_tokens, fixed_length=lane.prepared.effort.rules.fixed_length)
    lane.warn(answer.warning)
    warnings = []
    if first.cached_tokens:
        served.cached += 1
        warnings.append(f"rejected: {first.cached_tokens} of {len(ids)} prompt tokens came out of the engine's cache")
    else:
        served.first_ms.append(first.first_ms)
        served.prefill_ms += [] if first.prefill_ms is None else [first.prefill_ms]
        lane.warn(UNKNOWN if first.cached_tokens is None else None)
    served.tokens_per_s += [] if answer.tokens_per_s is None else [answer.tokens_per_s]
    lane.samples.append(
        Sample(
            cell=cell.key,
            task=task_id(cell.task, lane.prepared.task),
            id=example.id,
            prediction=answer.text,
            answers=list(example.answers),
            score=None,
            scorer=None,
            prompt_sha256=example.sha256,
            tokens=len(ids),
            served_ms=first.first_ms,
            served_prefill_ms=first.prefill_ms,
            served_tokens_per_s=answer.tokens_per_s,
            cached_tokens=first.cached_tokens,
            warnings=warnings,
        )
    )
    return answer


def _hold(lane: Lane, example: Example, answer: Completion, tokens: list[int], read: Read) -> None:
    """Holds an answer against full attention's up to its first end, behind which engines do as they like."""
    served = lane.served
    assert served is not None, "the engine is there"
    wanted = list(takewhile(lambda token: token not in read.eos_ids, tokens))
    if answer.tokens is None:
        lane.warn(AS_TEXT)
        said, own = answer.text.strip(), read.tokenizer.decode(wanted).strip()
        served.held += len(own)
        if not said.startswith(own):
            served.differing.append(f"of {example.id}: {shown(own)} of full attention, got {shown(said)}")
        return
    served.held += len(wanted)
    pairs = enumerate(zip_longest(wanted, answer.tokens[: len(wanted)]), 1)
    for i, (own, got) in pairs:
        if own != got:
            token = "no token" if got is None else f"token {got}"
            served.differing.append(f"of {example.id}: number {i} is token {own} of full attention, got {token}")
            return


def _judge(lane: Lane) -> None:
    """Ends the lane of an engine that computes something else, or of which no time counts."""
    served, asked = lane.served, len(lane.samples)
    assert served is not None, "the engine is there"
    if served.differing:
        count = f"{len(served.differing)} of {asked} answers are not those of full attention"
        lane.end("parity_failed", f"{count}, first that {served.differing[0]}; does the engine serve the same weights?")
    elif not served.held:
        lane.end("unsupported", "full attention answers nothing that an engine's answers could be held against")
    elif served.cached == asked:
        lane.end("error", f"all {asked} prompts were partly in the engine's cache; {TURN_OFF}")
    elif served.cached:
        lane.warn(f"{served.cached} of {asked} prompts were partly in the engine's cache and do not count; {TURN_OFF}")
