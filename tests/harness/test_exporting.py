import json
from dataclasses import replace

import pytest

from pcbench.cli import main
from pcbench.errors import ConfigError, DataMissing
from pcbench.harness.exporting import export_kept
from pcbench.harness.kinds.methods.prompts import build_example
from pcbench.harness.runner import plan
from pcbench.models import load_tokenizer
from pcbench.records import read_run


def exported(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_is_the_prompt_with_the_kept_chunks_alone(finished, options, tmp_path):
    samples = {(s.cell, s.id): s for s in read_run(finished.path)[2] if s.kept_chunks is not None}
    assert export_kept(finished.path, tmp_path / "kept.jsonl") == len(samples) > 0
    lines = exported(tmp_path / "kept.jsonl")
    assert {(line["cell"], line["id"]) for line in lines} == set(samples)
    planned, tokenizer = plan(options()), load_tokenizer("random:tiny")
    examples = {
        (prepared.cell.key, example.id): example
        for prepared in planned.cells
        for example in (build_example(prepared, tokenizer, i) for i in prepared.cell.indices)
    }
    for line in lines:
        sample, example = samples[line["cell"], line["id"]], examples[line["cell"], line["id"]]
        (chunk,) = line["kept_chunks"]
        # equal parts of at most 128 tokens
        tokens = len(example.context)
        parts = -(-tokens // 128)
        kept = example.context[tokens * chunk // parts : tokens * (chunk + 1) // parts]
        assert line["prompt"] == [*example.prefix, *kept, *example.query]
        assert 0 < len(kept) <= 128
        assert (line["method"], line["max_tokens"], line["answers"]) == ("kept_chunks", 4, sample.answers)


def test_the_command_writes_into_the_folder(finished, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export-kept", str(finished.path)])
    assert not ended.value.code
    assert capsys.readouterr().out == f"{finished.path / 'kept.jsonl'}\n"
    assert exported(finished.path / "kept.jsonl")


def test_what_cannot_be_exported_is_one_line(finished, tmp_path):
    manifest = finished.manifest
    finished.write_manifest({key: value for key, value in manifest.items() if key != "options"})
    with pytest.raises(ConfigError, match="got that of an older pcbench"):
        export_kept(finished.path, tmp_path / "kept.jsonl")
    finished.write_manifest(manifest | {"options": manifest["options"] | {"sets": ["suite.seed=1"]}})
    with pytest.raises(ConfigError, match=r"export-kept: suite\.seed 0, with which .* began, got 1 here"):
        export_kept(finished.path, tmp_path / "kept.jsonl")
    finished.samples.replace([s for s in finished.samples.read() if s.kept_chunks is None])
    with pytest.raises(DataMissing, match="none of whose prompts kept chunks"):
        export_kept(finished.path, tmp_path / "kept.jsonl")
    assert not (tmp_path / "kept.jsonl").exists()


def test_chunks_of_other_methods_are_none_of_a_server_s(finished, tmp_path):
    count = export_kept(finished.path, tmp_path / "kept.jsonl")
    full = {p.cell for p in finished.records.read() if p.method == "full"}
    samples = list(finished.samples.read())
    other = next(s for s in samples if s.cell in full)
    # far beyond the chunks of any prompt
    finished.samples.replace([replace(s, kept_chunks=[1 << 20]) if s is other else s for s in samples])
    assert export_kept(finished.path, tmp_path / "kept.jsonl") == count
    finished.samples.replace([replace(other, kept_chunks=[0])])
    with pytest.raises(DataMissing, match="none of whose prompts kept chunks"):
        export_kept(finished.path, tmp_path / "kept.jsonl")


def test_no_prompt_is_dropped_where_its_text_is_another(finished, tmp_path):
    samples = list(finished.samples.read())
    changed = next(s for s in samples if s.kept_chunks is not None)
    finished.samples.replace([replace(s, prompt_sha256="0" * 64) if s is changed else s for s in samples])
    with pytest.raises(
        ConfigError, match=rf"prompts as they were, got other texts of 1 of .*, first {changed.id}; export"
    ):
        export_kept(finished.path, tmp_path / "kept.jsonl")
    assert not (tmp_path / "kept.jsonl").exists()
