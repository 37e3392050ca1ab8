"""The page as a whole: one file, nothing from elsewhere, nothing unescaped, the same every time."""

import json
import re
from dataclasses import replace
from pathlib import Path
from time import process_time

import pytest
from report.made_accuracy import needle_samples, vs_full, write_with_samples
from report.made_runs import FULL, HOSTILE, endings, read_page, record, stock, suite_records, write_run

from pcbench.cli import main
from pcbench.errors import ConfigError, DataMissing
from pcbench.report import build
from pcbench.report.reading.runs import read_runs
from pcbench.types import Record

EVERYTHING = [
    *(
        "verdict",
        "trust",
        "choose",
        "tradeoff",
        "time",
        "speedup",
        "decoding",
        "rates",
        "stages",
        "memory",
        "accuracy",
        "prompts",
    ),
    *("correctness", "distribution", "cells", "provenance"),
]


def test_build_writes_one_file_into_the_first_folder(tmp_path):
    folder = write_run(tmp_path / "a", suite_records())
    before = {path.name for path in folder.iterdir()}
    assert build([folder]) == folder / "report.html"
    assert {path.name for path in folder.iterdir()} == before | {"report.html"}


def test_build_writes_where_out_says(tmp_path):
    folder = write_run(tmp_path / "a", suite_records())
    assert build([folder], tmp_path / "b.html") == tmp_path / "b.html"
    assert not (folder / "report.html").exists()


def test_build_replaces_an_older_report(tmp_path):
    folder = write_run(tmp_path / "a", suite_records())
    (folder / "report.html").write_text("old")
    assert "old" not in build([folder]).read_text()[:100]


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("no/such/x.html", "a file that can be written, got .*/no/such/x.html: No such file or directory"),
        ("taken", ".*/taken: a plain file or a new name, got a folder"),
    ],
)
def test_build_names_a_file_that_cannot_be_written(tmp_path, out, message):
    folder = write_run(tmp_path / "a", suite_records())
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConfigError, match=f"^--out: {message}; choose another$"):
        build([folder], tmp_path / out)


def test_build_without_a_manifest_is_data_missing(tmp_path):
    with pytest.raises(DataMissing, match=r"manifest\.json"):
        build([tmp_path])


def spoilt_line(folder):
    (folder / "records.jsonl").open("a").write("5\n")


def spoilt_letter(folder):
    (folder / "records.jsonl").open("ab").write(b'{"cell": "\xff"}\n')


@pytest.mark.parametrize(("spoil", "expected"), [(spoilt_line, "a JSON object"), (spoilt_letter, "text in UTF-8")])
@pytest.mark.parametrize("command", ["report", "compare"])
def test_commands_name_a_spoilt_line_in_one_line(tmp_path, capsys, command, spoil, expected):
    folders = [write_run(tmp_path / name, suite_records()) for name in "ab"]
    spoil(folders[1])
    with pytest.raises(SystemExit, match="2"):
        main([command, *map(str, folders)])
    (line,) = capsys.readouterr().err.splitlines()
    assert f"records.jsonl:{len(suite_records()) + 1}: {expected}, got " in line


def test_page_defines_what_its_numbers_leave_out(report):
    text = " ".join(report([record()]).text.split())
    assert "Of shares, and of scores that are all 0 or 1: Wilson; of other scores: bootstrap over prompts" in text
    assert "peak memoryOf the prefill" in text
    assert "when every one is kept, and how long a context that makes" in text


def test_page_has_every_section_for_a_whole_suite(report):
    page = report(suite_records() + endings())
    assert page.sections == EVERYTHING
    assert len(page.ids) == len(set(page.ids))
    anchors = {a["href"] for tag, a in page.elements if tag == "a"}
    assert {anchor.removeprefix("#") for anchor in anchors} <= set(page.ids)


def test_page_asks_for_nothing_from_elsewhere(report):
    page = report(suite_records() + endings())
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "img", "base"), tag
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    assert set(re.findall(r"url\((.)", page.html)) == {"#"}
    outside_data = re.sub(r'<script type="application/json".*?</script>', "", page.html, flags=re.DOTALL)
    assert "http:" not in outside_data
    assert "https:" not in outside_data
    assert "@import" not in outside_data


def test_page_references_only_ids_it_has(report):
    page = report(suite_records())
    wanted = {a["href"].removeprefix("#") for tag, a in page.elements if tag == "use"}
    wanted |= set(re.findall(r"url\(#([^)]*)\)", page.html))
    assert wanted
    assert wanted <= set(page.ids)


def test_page_allows_only_its_own_script(report):
    page = report([record(model=HOSTILE)])
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/=]{44}'", policy)
    assert [a.get("type") for tag, a in page.elements if tag == "script"] == ["application/json", None]


def hostile_records() -> list[Record]:
    everywhere = {
        "run": HOSTILE, "suite": HOSTILE, "model": HOSTILE, "dtype": HOSTILE, "task": HOSTILE, "scorer": HOSTILE,
        "score_name": HOSTILE, "repro_command": HOSTILE, "commit": HOSTILE, "warnings": [HOSTILE], "torch": HOSTILE,
        "started_at": HOSTILE,
    }  # fmt: skip
    config = {"method_config": {HOSTILE: HOSTILE}}
    parity = {"parity_ops": {HOSTILE: {"err": 1e-7, "bound": 1e-6}}, "stages_ms": {HOSTILE: 5000.0, "b": 100.0}}
    failed = {"status": "error", "reason": HOSTILE, "context_tokens": 16384}
    return [
        stock(**everywhere, workload=HOSTILE),
        record(
            **everywhere, **config, **parity, workload=HOSTILE, method=HOSTILE, speedup_vs_full=1.5, baseline=HOSTILE
        ),
        record(**everywhere, workload=HOSTILE, method=HOSTILE, method_config={HOSTILE: "x"}),
        record(**everywhere, **failed, workload=HOSTILE),
        record(**everywhere, workload="w" * 500, method="m" * 300),
    ]


def test_page_escapes_every_string(report):
    manifest = {"command": HOSTILE, "suite": HOSTILE, "environment": {HOSTILE: HOSTILE, "cpu": HOSTILE}}
    page = report(hostile_records(), **manifest)
    tags = {tag for tag, _ in page.elements}
    assert "img" not in tags
    assert [a.get("type") for tag, a in page.elements if tag == "script"] == ["application/json", None]
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.text.count("<script>alert(1)</script>") > 20
    assert "{{ 7*7 }}" in page.text
    assert "$x^2$" in page.text


def test_page_holds_its_data_unharmed(report):
    page = report(hostile_records())
    (run,) = read_runs([page.path])
    (same,) = read_runs([page.path.parent])
    assert run == same


@pytest.mark.parametrize("make", [suite_records, endings, hostile_records])
def test_build_is_the_same_every_time_and_from_its_own_data(tmp_path, make):
    folder = write_run(tmp_path / "a", make())
    first = build([folder]).read_bytes()
    assert build([folder]).read_bytes() == first
    copy = tmp_path / "copy.html"
    copy.write_bytes(first)
    assert build([copy]) == copy
    assert copy.read_bytes() == first
    assert build([folder / "report.html"], tmp_path / "new.html").read_bytes() == first


def test_build_puts_several_runs_side_by_side(tmp_path):
    a = write_run(tmp_path / "a", suite_records(run="one"))
    b = write_run(tmp_path / "b", suite_records(run="two", torch="2.14.0"))
    page = read_page(build([a, b], tmp_path / "both.html"))
    rows = page.tables["All cells"]
    assert {row["run"] for row in rows} == {"one", "two"}
    assert len(rows) == 2 * len(suite_records())
    assert "ParallelComp · one" in page.text
    assert "ParallelComp · two" in page.text
    assert "runs" in page.sections
    assert "What differs between the runs" not in page.tables
    differing = {row[""] for row in page.tables["Manifests side by side"] if row["differs"]}
    assert differing == {"run"}
    assert "The runs differ in torch" in page.text
    assert build([tmp_path / "both.html"], tmp_path / "again.html").read_bytes() == page.path.read_bytes()


def test_build_numbers_runs_of_one_name(tmp_path):
    a, b = (write_run(tmp_path / name, [record()]) for name in "ab")
    page = read_page(build([a, b], tmp_path / "both.html"))
    assert {row["run"] for row in page.tables["All cells"]} == {"prefill_cpu", "prefill_cpu (2)"}


def test_build_of_one_record(report):
    page = report(
        [record(score=None, scorer=None, key_chunk_kept=None, stages_ms=None, peak_bytes=None, kv_bytes=None)]
    )
    parts = [
        "verdict", "trust", "time", "decoding", "rates", "prompts", "correctness", "distribution", "cells",
        "provenance",
    ]  # fmt: skip
    assert page.sections == parts
    assert "No headline number" in page.text


def test_build_without_an_ok_record(report):
    page = report(endings())
    assert page.sections == ["verdict", "trust", "correctness", "cells", "provenance"]
    assert [row["status"] for row in page.tables["Cells that are not ok"]] == [r.status for r in endings()]


def test_build_of_an_empty_run(report):
    page = report([], cells=["a" * 12, "b" * 12])
    assert page.sections == ["verdict", "trust", "provenance"]
    assert "0 of 2 planned cells have a record" in page.text


def test_build_needs_little_of_the_manifest(tmp_path):
    folder = write_run(tmp_path / "a", [record()])
    (folder / "manifest.json").write_text('{"schema": 1, "run": "r"}')
    assert "cells" in read_page(build([folder])).sections


def many_records() -> list[Record]:
    """500 cells with digits in every number."""
    records = []
    for workload in range(5):
        for keep in range(20):
            for doubling in range(5):
                p50 = 2000.123456789 * 2**doubling + 17.1234567 * keep
                where = {"workload": f"workload{workload}", "context_tokens": 2048 << doubling}
                where |= {"ms_p10": p50 * 0.98, "ms_p50": p50, "ms_p90": p50 * 1.03}
                where |= {"samples_ms": [p50 * (1 + i / 97) for i in range(5)]}
                ops = {f"op_number_{i}": {"err": p50 * 1e-11 * i, "bound": 1.98765432101234e-6} for i in range(8)}
                ratios = {"speedup_vs_full": p50 / 999, "speedup_vs_reference": p50 / 1234}
                ratios |= {name + end: value * factor for name, value in list(ratios.items())
                           for end, factor in (("_ci_low", 0.9), ("_ci_high", 1.1))}  # fmt: skip
                config = {"chunk_tokens": 2048, "keep": keep, "micro_batch": 1, "evict": None, "calibration": []}
                made = (
                    record(**where, **ratios, **FULL, method_config=config, parity_ops=ops) if keep else stock(**where)
                )
                records.append(made)
    return records


def many(folder: Path) -> Path:
    """A run of 500 cells with every kind of number, 10 prompts each and more raw times than a report takes."""
    records = []
    for one in many_records():
        ms = one.ms_p50 or 1.0
        more = {"samples_ms": [ms * (1 + i / 997) for i in range(100)], "repeats": 100, "outliers": 3}
        more |= {"ms_ci_low": ms * 0.99, "ms_ci_high": ms * 1.01, "wall_ms_p50": ms * 1.002}
        more |= {"phase_bytes": {"chunks": int(ms * 1e5), "query": int(ms * 9e4)}, "reserved_bytes": int(ms * 2e5)}
        more |= {"telemetry_summary": {"readings": 40, "power_w_p50": ms / 7, "throttled_ratio": 0.0}}
        if one.backend != "torch":
            more |= vs_full(-ms * 1e-6, 0.01234567, 0.123456789)
        records.append(replace(one, **more))
    samples = [sample for one in records for sample in needle_samples(one)]
    return write_with_samples(folder, records, [replace(s, prediction=s.prediction * 99) for s in samples])


def test_page_of_500_cells_stays_below_3_mb(tmp_path):
    folder = many(tmp_path / "a")
    page = read_page(build([folder]))
    assert len(page.tables["All cells"]) == 500
    assert page.path.stat().st_size <= 3_000_000


@pytest.mark.slow
def test_page_of_500_cells_takes_20_seconds_at_most(tmp_path):
    folder = many(tmp_path / "a")
    start = process_time()
    build([folder])
    assert process_time() - start <= 20


def test_embedded_data_is_plain_json(report):
    page = report(suite_records())
    text = re.search(r'<script type="application/json" id="pcbench-data">(.*?)</script>', page.html, re.DOTALL)[1]
    (run,) = json.loads(text)["runs"]
    assert run["manifest"]["suite"] == "prefill"
    assert len(run["records"]) == len(suite_records())


def test_build_writes_no_path_of_the_machine(report):
    page = report(suite_records())
    assert str(page.path.parent) not in page.html
    assert str(Path.home()) + "/" not in page.html
