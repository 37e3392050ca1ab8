"""reports/claims.md: every figure from a record, every command one that can be planned."""

import json
import shlex
import shutil

import pytest
from claims import CLAIMS, EXAMPLES, PAGE, page, read_claims

from pcbench.errors import ConfigError
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


def test_a_figure_is_that_of_the_record_at_the_longest_context(changed):
    text = changed(speedup_vs_full=7.891, speedup_vs_full_ci_low=7.5, speedup_vs_full_ci_high=8.25)
    assert "**7.89** [7.50, 8.25] (smollm2-135m in float32, 8,192 tokens, x86_64 AVX512, 2 threads; record" in text


def test_a_cell_that_is_not_ok_gives_no_figure(changed):
    text = changed(status="parity_failed", reason="off")
    assert "**1.43** [1.39, 1.44] (smollm2-135m in float32, 4,096 tokens" in text
    assert "8,192 tokens" not in text


def test_what_no_record_has_is_said(tmp_path):
    text = page(read_claims(), tmp_path)
    assert "**" not in text
    assert text.count("no record yet") == sum(len(claim.figures) for claim in read_claims())


@pytest.mark.parametrize("claim", read_claims(), ids=lambda claim: claim.headline)
def test_the_command_can_be_planned(claim):
    program, run, *words = shlex.split(claim.command)
    assert (program, run) == ("pcbench", "run")
    given = {}
    for option, value in zip(words[::2], words[1::2], strict=True):
        given.setdefault(option.removeprefix("--"), []).append(value)
    assert given.pop("device") == ["cuda"]
    found = load_suite(
        given.pop("suite")[0], "cuda", preset=given.pop("preset", [None])[0], sets=given.pop("set", []),
        model=given.pop("model", [None])[0], methods=(methods := given.pop("method", [])),
    )  # fmt: skip
    assert given == {}
    assert not methods or {cell.method for cell in found.cells} == set(methods)


def test_a_wrong_key_is_one_line(tmp_path):
    path = tmp_path / "claims.toml"
    path.write_text(CLAIMS.read_text().replace("headline =", "headlin =", 1))
    with pytest.raises(ConfigError, match="headlin") as error:
        read_claims(path)
    assert "\n" not in str(error.value)
