"""Suites of perplexity: windows of one text × lengths × methods × backends; nothing is timed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pcbench.config import Context, Count, Dtype, Repeats, Seconds, Seed, Table, every_key_optional, validate
from pcbench.errors import ConfigError
from pcbench.harness.kinds.methods.settings import Merge, MethodChoice, MethodSuite, Workload
from pcbench.suites.files import Source

__all__ = ["PerplexitySettings", "perplexity_suite"]

# what stands where no text is named: CPython's
DOCUMENTATION = "documentation"


class PerplexitySettings(MethodChoice):
    """`[suite]` with the device's table merged over it.

    Args:
        context_tokens: of a window, its scored tokens and what the tokenizer puts in front of a text included.
        longest_tokens: windows of every length end where those of so many tokens do; None takes the longest of
            context_tokens.
        text: a file of text in UTF-8; without it and token_file the text is CPython's documentation.
        token_file: ids of the model's own tokenizer one after another, as PG19's are stored for such tests.
        token_dtype: of that file, which does not say it itself.
        prompts: windows of a length at most, spread evenly over the text.
        stride: the longest windows begin at multiples of it.
        scored_tokens: the last ones of a window, whose loss is taken.
        query_tokens: those before them, which methods take for the question: by them chunks are ranked.
        whole_windows: of those windows, how many give the loss at every position, of methods that leave nothing out.
        device_map: "auto" spreads a model that is larger than one GPU over all of them.
        timeout_s: of a group; needs --isolate.
        methods, kv_tokens, quantize: as `MethodChoice` says.
    """

    kind: str
    model: str
    dtype: Dtype
    context_tokens: Annotated[list[Context], Field(min_length=1)]
    longest_tokens: Context | None = None
    text: str = ""
    token_file: str = ""
    token_dtype: Literal["uint16", "uint32"] | None = None
    seed: Seed = 0
    prompts: Repeats = 16
    stride: Count = 256
    scored_tokens: Count = 256
    query_tokens: Count = 64
    whole_windows: Annotated[int, Field(ge=0, le=1_000_000)] = 4
    device_map: Literal["auto"] | None = None
    timeout_s: Seconds | None = None


Partial = every_key_optional(PerplexitySettings, without=("kind",))


class PerplexityFile(Table):
    """The top level of a suite file; `[suite]` itself is checked after merging."""

    suite: dict[str, Any]
    device: dict[Literal["cpu", "gpu"], Partial] = Field(default_factory=dict)  # type: ignore[valid-type]
    cell: Annotated[list[dict[str, Any]], Field(min_length=1)]
    preset: dict[str, dict[str, Any]] = Field(default_factory=dict)


def perplexity_suite(source: Source, model: str | None, methods: Sequence[str]) -> MethodSuite:
    """The suite of a file whose one workload is a text.

    Args:
        source: the file and what changes it.
        model: overrides the suite's model.
        methods: keeps only the cells of these methods; one without a cell gets a cell of its defaults.

    Raises:
        ConfigError: anything unknown or impossible, by key path.
    """
    file = validate(PerplexityFile, source.document, source.where)
    if source.data_dir is not None:
        raise ConfigError(
            f"{source.where}: no --set data.dir, got {source.data_dir}; name a text by --set suite.text=FILE"
        )
    merged = Merge(source, PerplexitySettings, (), file.cell, model, methods)
    where = f"{source.where}: suite"
    settings = validate(PerplexitySettings, merged.settings, where)
    _check_text(where, settings)
    taken = settings.scored_tokens + settings.query_tokens
    for tokens in settings.context_tokens:
        if tokens <= taken:
            raise ConfigError(
                f"{where}.context_tokens: more than the {taken} of scored_tokens and query_tokens, got {tokens}; "
                "lengthen it"
            )
    longest = max(settings.context_tokens)
    if settings.longest_tokens is not None and settings.longest_tokens < longest:
        raise ConfigError(
            f"{where}.longest_tokens: at least the {longest} of context_tokens, got {settings.longest_tokens}; raise "
            "it or leave it out"
        )
    text = Workload(name=_workload(settings), task="", timed=False, prompts=settings.prompts, new_tokens=None)
    cells = merged.checked_cells()
    return MethodSuite(source.name, source.where, settings, None, [text], cells).checked()


def _workload(settings: PerplexitySettings) -> str:
    named = settings.token_file or settings.text
    return f"{Path(named).name or DOCUMENTATION}, last {settings.scored_tokens}"


def _check_text(where: str, settings: PerplexitySettings) -> None:
    """Refuses two texts, and ids of which nobody says how wide they are."""
    if settings.text and settings.token_file:
        raise ConfigError(f"{where}: text or token_file, got both; leave one out")
    if settings.token_file and settings.token_dtype is None:
        raise ConfigError(
            f"{where}.token_dtype: uint16 or uint32 with token_file, got none; name the type that the file was "
            "written as"
        )
    if settings.token_dtype is not None and not settings.token_file:
        raise ConfigError(f"{where}.token_dtype: only with token_file, got {settings.token_dtype}; leave it out")
