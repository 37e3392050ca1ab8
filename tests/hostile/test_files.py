"""Every file that pcbench reads, changed in every way: one line and the right exit code, or it is read."""

import json
import os
import socket
from pathlib import Path

import pytest
from harness_suite import SUITE
from hostile.guard import check, search, sized
from hostile.mutations import of_json, of_lines, spoilt
from hypothesis import strategies as st
from report.made_runs import endings, record, stock, write_run
from tasks.made_records import longbench_record, write

from pcbench.records import RunFolder
from pcbench.report import build

READ = (0, 2)
MODEL = {"name": "example", "layers": 30, "kv_heads": 3, "head_dim": 64, "parameters": 134_515_008, "trained": True}
NAMES = {"records": "records.jsonl", "samples": "samples.jsonl", "manifest": "manifest.json"}


def records():
    """A pair that is compared, an untimed one and one that failed: quick to draw."""
    return [stock(), record(baseline="full/torch/sdpa-flash", speedup_vs_full=1.7), endings()[3]]


def untimed():
    """Records without a figure: a page is made in no time."""
    return [endings()[2], endings()[3]]


@pytest.fixture
def runs(tmp_path):
    """Two folders of runs, alike."""
    return [write_run(tmp_path / name, records()) for name in "ab"]


def valid(path):
    """The values of a JSON or a JSON-lines file."""
    text = path.read_text()
    return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


@sized(60, 3000)
@pytest.mark.parametrize("name", NAMES)
def test_files_of_a_run(runs, name, examples):
    path = runs[1] / NAMES[name]
    made = of_json(valid(path)) if path.suffix == ".json" else of_lines(valid(path)[-3:])

    def case(data):
        path.write_bytes(data)
        check(name, ["compare", *map(str, runs)], READ, data)

    search(made, examples, case)


@sized(25, 2000)
@pytest.mark.parametrize("name", ["records", "manifest"])
def test_runs_to_choose_from(tmp_path, name, examples):
    """With sizes of a model and of its passes, whatever they are."""
    passes = {"peak_samples_bytes": [500 << 20] * 3, "phase_bytes": {"decode": 1 << 20}}
    run = write_run(tmp_path / "a", [stock(**passes), record(**passes)], model=MODEL)
    path = run / NAMES[name]
    made = of_json(valid(path)) if path.suffix == ".json" else of_lines(valid(path))

    def case(data):
        path.write_bytes(data)
        check(name, ["choose", str(run), "--memory", "1GiB", "--context", "131072"], READ, data)
        check(name, ["choose", str(run), "--json"], READ, data)

    search(made, examples, case)


@sized(6, 400)
@pytest.mark.parametrize("name", NAMES)
def test_pages_of_files_of_a_run(tmp_path, name, examples):
    folder = write_run(tmp_path / "a", untimed())
    path = folder / NAMES[name]
    RunFolder(folder).samples.append([])
    made = of_json(valid(path)) if path.suffix == ".json" else of_lines(valid(path) or [{"cell": "c"}])

    def case(data):
        path.write_bytes(data)
        ended = check(name, ["report", str(folder)], READ, data)
        if ended.code == 0:
            # what was read is data that the page is made from again
            check("page", ["report", str(folder / "report.html"), "--out", str(tmp_path / "again.html")], (0,), data)

    search(made, examples, case)


@sized(40, 2000)
def test_data_of_a_page(tmp_path, examples):
    page = build([write_run(tmp_path / "a", untimed())])
    head, data, tail = parts(page.read_text())
    again = tmp_path / "again.html"
    changed = of_json(json.loads(data)).map(lambda new: head.encode() + new.replace(b"<", b"\\u003c") + tail.encode())

    def case(data):
        page.write_bytes(data)
        check("page", ["report", str(page), "--out", str(again)], READ, data[len(head) : -len(tail)][:2000])

    search(changed | spoilt(data.encode()).map(lambda new: head.encode() + new + tail.encode()), examples, case)


def parts(text):
    start = text.index('id="pcbench-data">') + len('id="pcbench-data">')
    end = text.index("</script>", start)
    return text[:start], text[start:end], text[end:]


LITERALS = ["0", "-1", "1e9", "inf", "nan", "true", '""', '"\\u001b[31m"', '"x"', "[]", "{}", "[[]]", "9" * 5000]
LITERALS += ["1979-05-27", '"""a\nb"""', "[1, 'x']", "{a = {b = 1}}", "[" * 3000, "300", "'full'", "2", "", "="]


@st.composite
def suites(draw):
    """A suite's text of which a line has another value, another key, goes or comes twice."""
    lines = SUITE.strip().splitlines()
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(lines) - 1))
        key, equals, _value = lines[at].partition(" = ")
        how = draw(st.sampled_from(("value", "value", "key", "gone", "twice", "raw")))
        if how == "value" and equals:
            lines[at] = f"{key} = {draw(st.sampled_from(LITERALS))}"
        elif how == "key" and equals:
            lines[at] = (
                draw(st.sampled_from(["kind", "cells", '"\\u001b"', "a.b", "config", "up_to"])) + lines[at][len(key) :]
            )
        elif how == "gone":
            del lines[at]
        elif how == "twice":
            lines.insert(at, lines[at])
        else:
            lines.insert(
                at, draw(st.sampled_from(["[suite]", "[[cell]]", "[device]", "x = 1", "[preset.a.cell]", "]", "\0"]))
            )
        if not lines:
            return b""
    return "\n".join(lines).encode()


@sized(25, 2000)
def test_suite_files(tmp_path, examples):
    path = tmp_path / "suite.toml"

    def case(data):
        path.write_bytes(data)
        check("suite", ["run", "--suite", str(path), "--device", "cpu", "--dry-run"], READ, data)

    search(suites() | spoilt(SUITE.encode()), examples, case)


@sized(60, 3000)
@pytest.mark.parametrize(
    ("kind", "name"), [("longbench", "qasper.jsonl"), ("infinitebench", "preds_kv_retrieval.jsonl")]
)
def test_predictions(tmp_path, kind, name, examples):
    one = {"pred": "a b", "answers": ["a"], "all_classes": None, "length": 7, "_id": "x"}
    other = {"id": 3, "prediction": "a b", "ground_truth": ["a", 2]}
    values = [dict(one if kind == "longbench" else other) for _ in range(3)]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("".join(json.dumps(value) + "\n" for value in values))

    def case(data):
        (tmp_path / "a" / name).write_bytes(data)
        words = ["score", str(tmp_path / "a"), "--benchmark", kind, "--against", str(tmp_path / "b")]
        check("predictions", words, READ, data)

    search(of_lines(values), examples, case)


@sized(30, 2000)
def test_hashes_beside_the_data(tmp_path, monkeypatch, examples):
    monkeypatch.setenv("PCBENCH_DATA", str(tmp_path))

    def case(data):
        (tmp_path / "trusted.json").write_bytes(data)
        # no hash of this source is known, so nothing is asked of a network
        check("hashes", ["data", "fetch", "infinitebench"], (2,), data)

    search(of_json({"https://example.org/a": "0" * 64}), examples, case)


CONFIG = {
    "LongBench/config/dataset2maxlen.json": {"qasper": 128},
    "LongBench/config/dataset2prompt.json": {"qasper": "Read {context} and say: {input}"},
}


@sized(3, 400)
@pytest.mark.parametrize("name", ["records", *CONFIG])
def test_official_files(tmp_path, name, examples):
    path = write(tmp_path, "longbench/qasper", [longbench_record("A text.")] * 2)
    for place, table in CONFIG.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(json.dumps(table))
    path, made = (path, of_lines(valid(path))) if name == "records" else (tmp_path / name, of_json(CONFIG[name]))
    words = ["run", "--suite", "longbench", "--device", "cpu", "--model", "random:tiny", "--dry-run"]
    words += ["--set", "suite.tasks=[qasper]", "--set", f"data.dir={tmp_path}"]

    def case(data):
        path.write_bytes(data)
        check("official", words, READ, data)

    search(made, examples, case)


def fifo(path):
    os.mkfifo(path)


def bound(path):
    # a name of at most 107 bytes
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


SPECIAL = {
    "folder": Path.mkdir,
    "FIFO": fifo,
    "socket": bound,
    "zeroes": lambda path: path.symlink_to("/dev/zero"),
    "nothing": lambda path: path.symlink_to("/dev/null"),
    "loop": lambda path: path.symlink_to(path),
    "dangling": lambda path: path.symlink_to(path.with_name("gone") / "far"),
    "no reading": lambda path: path.symlink_to("/proc/self/mem"),
    "empty": Path.touch,
}


def state(path):
    return os.lstat(path).st_mode, os.readlink(path) if path.is_symlink() else None


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", NAMES.values())
def test_special_files_in_the_folder_of_a_run(runs, kind, name):
    (runs[1] / name).unlink()
    SPECIAL[kind](runs[1] / name)
    for command in ("compare", "report"):
        whole = kind == "empty" and name == "samples.jsonl"
        if whole and command == "report":
            continue
        check("special files", [command, *map(str, runs)], (0,) if whole else READ if kind == "empty" else (2,), kind)


@pytest.mark.parametrize("kind", [*SPECIAL, "too long", "no name", "absent", "half a letter"])
def test_special_files_as_arguments(runs, tmp_path, kind):
    names = {"too long": "x" * 300, "no name": "a\0b", "absent": "absent", "half a letter": "a\udcffb"}
    path = tmp_path / names.get(kind, "special")
    if kind in SPECIAL:
        SPECIAL[kind](path)
    before = state(path) if kind in SPECIAL else None
    a, b = map(str, runs)
    stored = tmp_path / "stored"
    stored.mkdir()
    (stored / "lcc.jsonl").write_text('{"pred": "x", "answers": ["x"]}\n')
    suite = path.with_name(path.name + ".toml")
    if kind in SPECIAL:
        SPECIAL[kind](suite)
    score = ["score", str(stored), "--benchmark", "longbench"]
    dry = ["run", "--suite", "longbench", "--device", "cpu", "--dry-run", "--model", "random:tiny"]
    for words in (
        ["report", str(path)],
        ["compare", a, str(path)],
        ["choose", a, str(path)],
        ["score", str(path), "--benchmark", "longbench"],
        [*score, "--against", str(path)],
        ["run", "--suite", str(suite), "--device", "cpu", "--dry-run"],
        [*dry, "--set", f"data.dir={path}"],
        [*dry, "--model", str(path)],
    ):
        check("special files", words, (2,), kind)
    # an empty file is written over, and a name that nothing has is a new file
    new = kind in ("empty", "absent", "half a letter")
    check("special files", ["compare", a, b, "--markdown", str(path)], (0,) if new else (2,), kind)
    if before:
        assert state(path)[0] == before[0]
        assert state(path)[1] == before[1]
    for out in (path, suite):
        if not new:
            check("special files", ["report", str(write_run(tmp_path / "c", untimed())), "--out", str(out)], (2,), kind)
