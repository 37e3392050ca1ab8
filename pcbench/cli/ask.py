"""`pcbench ask`: its arguments, its loop of questions and what it prints."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcbench.cli.terminals import err, out
from pcbench.config import parse_value
from pcbench.errors import ConfigError, shown
from pcbench.system import interrupts
from pcbench.system.terminal import shortened

if TYPE_CHECKING:
    from pcbench.harness.conversation import Conversation, Reply

__all__ = ["ask"]

MIB = 2**20


def ask(
    file: Annotated[Path, typer.Argument(help="A text, Markdown, HTML or PDF file.")],
    question: Annotated[
        str | None, typer.Argument(help="What to ask; without any a terminal asks for questions until Ctrl-D.")
    ] = None,
    more: Annotated[list[str] | None, typer.Option("--question", help="Another question; repeatable.")] = None,
    method: Annotated[str, typer.Option(help="A name of `pcbench list methods`.")] = "parallel_comp",
    model: Annotated[
        str, typer.Option(help="A name of `pcbench list models`, a Hugging Face id or a path.")
    ] = "smollm2-135m",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or rocm.")] = "auto",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the method, as keep=5 or evict.capacity=512.")
    ] = None,
    new_tokens: Annotated[int, typer.Option(min=1, max=1 << 20, help="Of an answer at most.")] = 128,
    plain: Annotated[bool, typer.Option("--plain", help="Without the model's chat template.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="An object in a line for each question.")] = False,
) -> None:
    """Answer questions about a long document. What was read for an answer is said behind it."""
    asked = [text for text in (question, *(more or [])) if text is not None]
    if not asked and not _asks():
        raise ConfigError("ask: a question, got none and no terminal to ask for one; write it behind the file")
    settings = _settings(set_ or [])
    with interrupts.tidily():
        from pcbench.harness.conversation import Conversation, Wanted
        from pcbench.tasks.documents import read_document

        text = read_document(file)
        wanted = Wanted(model, method, device, settings, new_tokens, chat=not plain, several=len(asked) != 1)
        conversation = Conversation(text, wanted)
        for one in asked or _typed():
            try:
                _answer(conversation, one, as_json)
            # of a terminal the next question may be a better one
            except ConfigError as error:
                if asked:
                    raise
                err.print(shortened(str(error)))


def _asks() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _typed() -> Iterator[str]:
    """Questions of a terminal; empty lines are none."""
    while True:
        err.print("question: ", end="")
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError as error:
            err.print(f"ask: a question in UTF-8, got {error.reason}; type it once more")
            continue
        if not line:
            # behind Ctrl-D the shell begins a line of its own
            err.print()
            return
        if line.strip():
            yield line.strip()


def _answer(conversation: "Conversation", question: str, as_json: bool) -> None:
    said: list[str] = []

    def say(piece: str) -> None:
        said.append(piece)
        if not as_json:
            out.print_piece(piece)

    try:
        reply = conversation.answer(question, say)
    finally:
        # also where an answer was interrupted
        if said and not as_json:
            out.print()
    if as_json:
        out.print(json.dumps(asdict(reply), allow_nan=False))
        return
    if not said:
        out.print()
    err.print(_line(reply))


def _line(reply: "Reply") -> str:
    """What was used for an answer."""
    parts = [f"{reply.prompt_tokens:,} tokens"]
    if reply.chunks is not None and reply.kept is not None:
        kept = ", ".join(f"#{number} {json.dumps(words, ensure_ascii=False)}" for number, words in reply.kept)
        parts.append(f"{len(reply.chunks)} chunk{'s' * (len(reply.chunks) != 1)}, kept {kept}")
    else:
        parts.append(f"{reply.kept_tokens:,.0f} kept")
    why = " (the question has a say in it)" if reply.document == "read again" else ""
    steps = reply.new_tokens - 1
    each = f" ({reply.decode_ms / steps:.0f} ms each)" if steps else ""
    limit = "" if reply.ended else ", the limit,"
    parts.append(f"document {reply.document}{why}, prefill {reply.prefill_ms / 1e3:.2f} s")
    parts.append(f"{reply.new_tokens} new tokens{limit} in {reply.decode_ms / 1e3:.2f} s{each}")
    peak = "" if reply.peak_bytes is None else f", peak {reply.peak_bytes / MIB:,.0f} MiB"
    parts.append(f"keys and values {reply.kv_bytes / MIB:,.0f} MiB{peak}")
    return "; ".join(["ask: " + parts[0], *parts[1:], *reply.warnings])


def _settings(sets: list[str]) -> dict[str, Any]:
    """Tables of `key.path=value`s."""
    found: dict[str, Any] = {}
    for text in sets:
        path, equals, value = text.partition("=")
        *parents, last = path.strip().split(".")
        if not equals or not all((*parents, last)):
            raise ConfigError(f"--set: key=value, got {shown(text)}; for example --set keep=5")
        table = found
        for key in parents:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {shown(path)}: one value for {key}, got two; leave one out")
        table[last] = parse_value(value)
    return found
