"""The chunks that a run has kept, as prompts that any server can prefill."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from pcbench.errors import ConfigError, DataMissing
from pcbench.harness.kinds.methods.prompts import build_example, device_prompt
from pcbench.harness.options import Options
from pcbench.harness.plan import Planned, plan_for
from pcbench.harness.shards.together import first_difference, measured
from pcbench.methods.parallel_comp import Config
from pcbench.methods.parallel_comp.layout import read_with_bos, spans_of
from pcbench.models import load_tokenizer
from pcbench.plain_files import write_for
from pcbench.records import read_run
from pcbench.tasks import Example
from pcbench.types import ModelSpec, Sample, Tokenizer

__all__ = ["METHOD", "export_kept"]

# what a server does with them: chunks at positions that follow each other, each of which sees those before it
METHOD = "kept_chunks"


def export_kept(run: Path, out: Path) -> int:
    """Writes a JSON line for every prompt of which ParallelComp has kept chunks; their number.

    A line has what a request for a completion has, `prompt` as token ids (template, kept chunks in the order of the
    text, query) and `max_tokens`, and what its answer is held against. No weights are loaded.

    Args:
        run: its folder.
        out: the file.

    Raises:
        DataMissing: no run, none of its prompts has kept chunks, or its model or files are not here.
        ConfigError: the run cannot be planned here as it was, or its prompts are others here, or the file cannot be
            written.
    """
    manifest, _, samples = read_run(run)
    kept = [sample for sample in samples if sample.kept_chunks is not None]
    planned = _planned(manifest, run) if kept else None
    # other methods may keep chunks of other layouts
    cells = [prepared for prepared in planned.cells if isinstance(prepared.config, Config)] if planned else []
    ours = {prepared.cell.key for prepared in cells}
    kept = [sample for sample in kept if sample.cell in ours]
    if planned is None or not kept:
        raise DataMissing(
            f"export-kept: a run of ParallelComp with samples, got {run}, none of whose prompts kept chunks"
        )
    tokenizer = load_tokenizer(planned.suite.settings.model)
    lines = [line for prepared in cells for line in _lines(prepared, kept, tokenizer, planned.kind.spec)]
    write_for("--out", out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return len(lines)


def _planned(manifest: dict[str, Any], run: Path) -> Planned:
    """The run, planned again as it began."""
    asked = manifest.get("options")
    if asked is None or "shard" in manifest:
        got = "that of an older pcbench" if asked is None else "a shard"
        raise ConfigError(
            f"export-kept: a whole run whose manifest has its options, got {got} in {run}; measure it again"
        )
    planned = plan_for(Options(**asked), manifest["environment"]["device"])
    here = measured(planned.suite.settings.model_dump(mode="json"), planned.whole)
    began = measured(manifest["settings"], {name: manifest.get(name) for name in planned.whole})
    difference = first_difference(began, here)
    if difference is not None:
        what, then, now = difference
        raise ConfigError(
            f"export-kept: {what} {then}, with which {run} began, got {now} here; export where the suite's files are "
            "as they were"
        )
    return planned


def _lines(prepared: Any, kept: list[Sample], tokenizer: Tokenizer, spec: ModelSpec | None) -> Iterator[dict[str, Any]]:
    """Of a cell, in the order of its prompts."""
    cell = prepared.cell
    assert spec is not None, "a method has a model"
    mine = {(sample.id, sample.prompt_sha256): sample for sample in kept if sample.cell == cell.key}
    for index in cell.indices:
        example = build_example(prepared, tokenizer, index)
        sample = mine.pop((example.id, example.sha256), None)
        if sample is None:
            continue
        assert sample.kept_chunks is not None, "of those that kept chunks"
        chunks = sorted(sample.kept_chunks)
        ids = _ids(example, chunks, prepared.config, tokenizer, spec)
        yield {
            "id": sample.id,
            "cell": cell.key,
            "task": sample.task,
            "method": METHOD,
            "kept_chunks": chunks,
            "prompt": ids,
            "max_tokens": example.new_tokens,
            "answers": sample.answers,
            "scorer": sample.scorer,
        }
    if mine:
        got = f"other texts of {len(mine)} of {cell.name}, first {next(iter(mine))[0]}"
        raise ConfigError(
            f"export-kept: prompts as they were, got {got}; export where texts and tokenizer are as they were"
        )


def _ids(example: Example, chunks: list[int], config: Any, tokenizer: Tokenizer, spec: ModelSpec) -> list[int]:
    prompt = read_with_bos(device_prompt(example, torch.device("cpu")), config, tokenizer.start_ids)
    spans = spans_of(prompt, config, spec, [])
    context = [token for chunk in chunks for token in example.context[slice(*spans[chunk])]]
    return [*example.prefix, *context, *example.query]
