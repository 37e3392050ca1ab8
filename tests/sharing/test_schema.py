"""The schemas say of a file what its reader says, and every committed run has them."""

import json
import re
from dataclasses import asdict, fields

import pytest
from documentation import ROOT
from jsonschema import Draft202012Validator
from report.made_runs import record

from pcbench.cli import main
from pcbench.errors import ConfigError
from pcbench.records import checked_manifest
from pcbench.rows import ROWS
from pcbench.sharing.schema import FILES, schema
from pcbench.types import Record, Sample

EXAMPLES = sorted(path.parent for path in (ROOT / "reports/examples").glob("*/manifest.json"))
SCHEMAS = {name: Draft202012Validator(schema(name)) for name in FILES}
MADE = {
    "records": json.loads(json.dumps(asdict(record(speedup_vs_full=2.0)))),
    "samples": asdict(
        Sample(cell="c", task="t", id="i", prediction="", answers=[], score=0.5, scorer="needle@1", prompt_sha256="0")
    ),
    "manifest": {"schema": 1, "run": "r", "cells": ["c"], "prompts": [None], "starts": [], "environment": {"ranks": 2}},
}


def wrong(name, value):
    return [f"{error.json_path}: {error.message}" for error in SCHEMAS[name].iter_errors(value)]


def rows(name, path):
    text = path.read_text(encoding="utf-8")
    return [json.loads(text)] if name == "manifest" else list(map(json.loads, text.splitlines()))


@pytest.mark.parametrize("name", FILES)
def test_every_committed_run_has_the_format(name):
    assert len(EXAMPLES) > 15
    found = [
        (path.name, problem)
        for path in EXAMPLES
        for row in rows(name, path / FILES[name])
        for problem in wrong(name, row)
    ]
    assert found == []


@pytest.mark.parametrize("name", FILES)
def test_the_schema_is_one_and_has_every_field_that_is_written(name):
    found = schema(name)
    Draft202012Validator.check_schema(found)
    assert found["$id"] == f"urn:pcbench:{name}:1"
    assert wrong(name, MADE[name]) == []
    if name != "manifest":
        kind = {"records": Record, "samples": Sample}[name]
        assert list(found["properties"]) == [field.name for field in fields(kind)]
        assert found["additionalProperties"] is False
        given = {key: part["default"] for key, part in found["properties"].items() if "default" in part}
        # a record of nothing but defaults and what is required is one
        assert wrong(name, given | {key: MADE[name][key] for key in found["required"]}) == []


def refused(name, value):
    """Whether the reader refuses it."""
    try:
        if name == "manifest":
            checked_manifest(value, "manifest.json")
        else:
            ROWS[Record if name == "records" else Sample].read(value, "line")
    except ConfigError:
        return True
    return False


CHANGES = [
    ("records", {"ms_p5": 1.0}),
    ("records", {"schema": 2}),
    ("records", {"schema": True}),
    ("records", {"samples_ms": []}),
    ("records", {"samples_ms": [0.0]}),
    ("records", {"ms_p50": "1"}),
    ("records", {"chunks": -1}),
    ("records", {"chunks": 1.5}),
    ("records", {"score": 1.5}),
    ("records", {"speedup_vs_full": 0.0}),
    ("records", {"status": "fine"}),
    ("records", {"device": "tpu"}),
    ("records", {"model": None}),
    ("records", {"warnings": None}),
    ("records", {"parity_ops": {"x": {"err": 0.5}}}),
    ("records", {"parity_ops": {"x": {"err": 0.5, "bound": 1.0, "also": 1.0}}}),
    ("records", {"decode_replayed": "never"}),
    ("samples", {"finish": "stop"}),
    ("samples", {"key_depth": 1.5}),
    ("samples", {"kept_chunks": [-1]}),
    ("samples", {"answers": "a"}),
    ("samples", {"schema": 1}),
    ("manifest", {"schema": 2}),
    ("manifest", {"run": 1}),
    ("manifest", {"cells": [1]}),
    ("manifest", {"prompts": ["5"]}),
    ("manifest", {"environment": {"ranks": 0}}),
    ("manifest", {"shard": {"number": 1, "count": 1, "options": {"suite": "s"}, "whole": {}}}),
]


@pytest.mark.parametrize(("name", "changes"), CHANGES)
def test_schema_and_reader_refuse_the_same(name, changes):
    assert not refused(name, MADE[name])
    changed = MADE[name] | changes
    assert wrong(name, changed)
    assert refused(name, changed)


@pytest.mark.parametrize("name", FILES)
def test_a_required_field_that_is_missing_is_refused_by_name(name):
    for key in schema(name)["required"]:
        held = {other: value for other, value in MADE[name].items() if other != key}
        assert wrong(name, held) == [f"$: '{key}' is a required property"]
        # the reader takes a record's own number from the file that it is in
        assert refused(name, held) or (name, key) == ("records", "schema")


def test_reader_wants_intervals_of_decoding_in_order_as_the_description_says():
    said = schema("records")["description"]
    for low in ("decode_ms_ci_low", "decode_speedup_vs_full_ci_low", "ms_p10"):
        assert re.search(rf"\b{low}, ", said)
    held = MADE["records"] | {"decode_ms_ci_low": 3.0, "decode_ms_ci_high": 2.0}
    with pytest.raises(ConfigError, match=r"line: decode_ms_ci_low: at most decode_ms_ci_high \(2\), got 3; "):
        ROWS[Record].read(held, "line")


def test_the_command_prints_one_or_all(capsys):
    for arguments, wanted in ((["samples"], schema("samples")), ([], {name: schema(name) for name in FILES})):
        with pytest.raises(SystemExit) as ended:
            main(["schema", *arguments])
        assert not ended.value.code
        assert json.loads(capsys.readouterr().out) == wanted
    with pytest.raises(SystemExit) as ended:
        main(["schema", "parts"])
    assert ended.value.code == 2
    assert "'records', 'samples', 'manifest'" in capsys.readouterr().err
