"""reports/claims.md: every figure from a record, every command one that can be planned."""

import json
import re
import shlex
import shutil

import pytest
from claims import CLAIMS, EXAMPLES, PAGE, page, read_claims

from pcbench import registry
from pcbench.errors import ConfigError
from pcbench.methods.eviction import Eviction
from pcbench.suites import load_suite

RUN = "prefill_xeon2c_202611"


def test_the_page_is_what_the_records_say():
    assert PAGE.read_text(encoding="utf-8") == page(read_claims()), "run `python tools/claims.py`"


@pytest.fixture
def changed(tmp_path):
    """The page with one example whose records of 8192 tokens by chunks are changed."""

    def make(**fields):
        shutil.copytree(EXAMPLES / RUN, tmp_path / RUN)
        path = tmp_path / RUN / "records.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        for record in records:
            if record["method"] == "parallel_comp" and record["context_tokens"] == 8192:
                record.update(fields)
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return page(read_claims(), tmp_path)

    return make


def test_a_figure_is_that_of_the_record_the_longest_context_first(changed):
    text = changed(speedup_vs_full=7.891, speedup_vs_full_ci_low=7.5, speedup_vs_full_ci_high=8.25)
    assert "**7.89** [7.50, 8.25] (smollm2-135m in float32, passkey, 8,192 tokens, x86_64 AVX512, 2 threads; " in text


def test_a_cell_that_is_not_ok_gives_no_figure(changed):
    text = changed(status="parity_failed", reason="off")
    assert "**1.43** [1.39, 1.44] (smollm2-135m in float32, passkey, 4,096 tokens" in text
    assert "8,192 tokens" not in text


def test_every_length_and_every_budget_has_its_figure_and_its_name(tmp_path):
    shutil.copytree(EXAMPLES / RUN, tmp_path / RUN)
    path = tmp_path / RUN / "records.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    other, twin = (
        next(
            r for r in records if (r["method"], r["context_tokens"], r["workload"]) == ("parallel_comp", 8192, workload)
        )
        for workload in ("prose", "passkey")
    )
    config = twin["method_config"] | {"keep": 2, "calibration": [{"zone": "sink"}] * 9}
    same = {name: other[name] for name in ("cell", "group")}
    other |= twin | same | {"method_config": config, "speedup_vs_full": 1.777}
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    lines = [line for line in page(read_claims(), tmp_path).splitlines() if "  - **" in line]
    assert [re.search(r"passkey, ([\d,]+) tokens", line)[1] for line in lines] == ["8,192", "8,192", "4,096", "2,048"]
    assert "; parallel_comp/cpu chunk_tokens=2048 keep=1 micro_batch=1; record" in lines[0]
    assert "**1.78**" in lines[1]
    assert (
        f"; parallel_comp/cpu chunk_tokens=2048 keep=2 micro_batch=1 calibration=…; record {other['cell']}" in lines[1]
    )


def test_what_no_record_has_is_said(tmp_path):
    text = page(read_claims(), tmp_path)
    assert "**" not in text
    assert text.count("no record yet") == sum(len(claim.figures) for claim in read_claims())


@pytest.mark.parametrize("claim", read_claims(), ids=lambda claim: claim.headline)
def test_the_command_can_be_planned(claim):
    *before, command = claim.command.split(" && ")
    program, run, *words = shlex.split(command)
    assert (program, run) == ("pcbench", "run")
    given = {}
    for option, value in zip(words[::2], words[1::2], strict=True):
        given.setdefault(option.removeprefix("--"), []).append(value)
    assert given.pop("device") == ["cuda"]
    (model,) = given.pop("model", [None])
    found = load_suite(
        given.pop("suite")[0], "cuda", preset=given.pop("preset", [None])[0], sets=given.pop("set", []),
        model=model, methods=(methods := given.pop("method", [])),
    )  # fmt: skip
    assert given == {}
    assert not methods or {cell.method for cell in found.cells} == set(methods)
    tables = any(needs_table(cell) for cell in found.cells)
    assert before == ([f"pcbench calibrate --model {model} --device cuda"] if tables else [])


def needs_table(cell):
    """Whether a method ends as data_missing unless somebody has measured the model's entropies."""
    # of a list of chunk sizes each is a cell
    given = {key: value for key, value in cell.config.items() if key != "chunk_tokens"}
    config = registry.load(registry.METHODS, "method", cell.method, "here").Config(**given)
    return hasattr(config, "needs_table") and config.needs_table()


def test_what_says_prefill_is_of_a_method_that_may_save_some_there():
    """A method that reads the whole prompt in every layer is no faster in prefill than full attention.

    Of dual_chunk the headline says that it is as fast.
    """
    methods = {f.where["method"] for c in read_claims() for f in c.figures if f.field == "speedup_vs_full"}
    classes = [registry.load(registry.METHODS, "method", name, "here") for name in methods]
    assert methods == {"uncomp_stage", "parallel_comp", "dual_chunk"}
    assert all(kind.prunes for kind in classes if issubclass(kind, Eviction))


def test_a_wrong_key_is_one_line(tmp_path):
    path = tmp_path / "claims.toml"
    path.write_text(CLAIMS.read_text().replace("headline =", "headlin =", 1))
    with pytest.raises(ConfigError, match="headlin") as error:
        read_claims(path)
    assert "\n" not in str(error.value)
