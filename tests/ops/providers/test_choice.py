"""The choice among kernels by tables of times, and the file that keeps them."""

import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pcbench.ops.providers.attending import ROUNDS, measured
from pcbench.ops.providers.choice import Case, Times, TimesFile, fastest, nearest, size_class
from pcbench.ops.providers.versions import code

WHERE = {"gpu": "a GPU", "torch": "2.13", "code": "cuda 0123"}
CASE = Case.of((4, 32, 7673, 128), 8, **WHERE, dtype="bfloat16", mass_rows=8, ragged=True)


@pytest.mark.parametrize(
    ("ms", "wanted"),
    [
        ({"own": 1.0}, "own"),
        ({"own": 1.0, "flash": 0.9, "cudnn": 0.7}, "cudnn"),
        ({"own": 1.0, "flash": 0.99}, "own"),
        ({"own": 1.0, "flash": 1.5}, "own"),
        ({"flash": 1.5, "cudnn": 2.0}, "flash"),
        ({}, "own"),
    ],
)
def test_fastest_is_our_own_unless_another_is_clearly_faster(ms, wanted):
    assert fastest(ms) == wanted


def test_cases_are_classes_of_sizes():
    assert [size_class(n) for n in (1, 2, 3, 64, 65, 7673)] == [1, 2, 4, 64, 128, 8192]
    assert (CASE.batch, CASE.rows, CASE.heads, CASE.kv_heads, CASE.dim) == (4, 8192, 32, 8, 128)
    assert Case.of((3, 32, 5000, 128), 8, **WHERE, dtype="bfloat16", mass_rows=8, ragged=True) == CASE
    others = {
        "gpu": "another",
        "torch": "2.11",
        "code": "cuda 4567",
        "dtype": "float16",
        "dim": 64,
        "heads": 8,
        "kv_heads": 4,
        "rows": 4096,
    }
    others |= {"batch": 1, "mass_rows": 0, "ragged": False}
    assert len({CASE.key, *(replace(CASE, **{name: value}).key for name, value in others.items())}) == 12


def test_nearest_differs_in_size_alone():
    of = {name: Times({name: 1.0}, {}) for name in ("flash", "cudnn", "aiter")}
    known = {replace(CASE, rows=1024): of["flash"], replace(CASE, rows=4096, batch=1): of["cudnn"]}
    known[replace(CASE, rows=4096, batch=2)] = of["aiter"]
    assert nearest(CASE, known) == {"aiter": 1.0}
    assert nearest(replace(CASE, rows=64), known) == {"flash": 1.0}
    assert nearest(replace(CASE, mass_rows=0), known) == {}


def calls(*names):
    return dict.fromkeys(names, lambda: None)


def test_times_are_taken_in_turns_and_kept(tmp_path):
    path, order = tmp_path / "attention" / "times.json", []
    made = {name: (lambda name=name: name) for name in ("own", "flash", "cudnn")}

    def once(call):
        name = call()
        order.append(name)
        if name == "cudnn" and len(order) > 3:
            raise RuntimeError("no plan\nfor it")
        # the first round is slow: it loads and plans
        return {"own": 2.0, "flash": 1.0, "cudnn": 1.0}[name] * (100 if len(order) <= 3 else 1)

    times = measured(TimesFile(path), CASE, made, once)
    assert times == Times({"own": 2.0, "flash": 1.0}, {"cudnn": "no plan"})
    assert order == ["own", "flash", "cudnn"] * 2 + ["own", "flash"] * (ROUNDS - 1)
    assert TimesFile(path).get(CASE) == times
    assert TimesFile(path).get(replace(CASE, rows=64)) is None

    def never(call):
        raise AssertionError("measured again")

    assert measured(TimesFile(path), CASE, made, never) == times
    # a library that came later is tried, with all others
    more = measured(TimesFile(path), CASE, calls("own", "flash", "cudnn", "aiter"), lambda _: 3.0)
    assert more.ms == dict.fromkeys(("own", "flash", "cudnn", "aiter"), 3.0)


def test_what_found_no_memory_is_tried_again_by_the_next_process(tmp_path):
    def once(call):
        if call() == "flash":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1.0

    made, path = {name: (lambda name=name: name) for name in ("own", "flash")}, tmp_path / "times.json"
    assert measured(TimesFile(path), CASE, made, once) == Times({"own": 1.0}, {"flash": "CUDA out of memory"})
    assert measured(TimesFile(path), CASE, made, lambda _: 2.0).ms == {"own": 2.0, "flash": 2.0}


def test_code_is_our_kernels_and_what_is_imported(monkeypatch):
    monkeypatch.setattr("torch.backends.cudnn.version", lambda: 91002)
    monkeypatch.setitem(sys.modules, "aiter", SimpleNamespace(__version__="0.1"))
    ours, triton = code("cpu"), code("triton")
    assert re.match(r"cpu [0-9a-f]{16}, cudnn 91002, aiter 0\.1", ours)
    assert triton.startswith("triton ")
    monkeypatch.setattr("torch.backends.cudnn.version", lambda: 91003)
    assert code("cpu") == ours.replace("91002", "91003")


def test_our_own_kernel_has_to_run(tmp_path):
    def once(call):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        measured(TimesFile(tmp_path / "times.json"), CASE, calls("own", "flash"), once)


def test_what_another_process_has_kept_stays(tmp_path):
    path = tmp_path / "times.json"
    ours, theirs = TimesFile(path), TimesFile(path)
    theirs.put(CASE, Times({"own": 1.0}, {}))
    ours.put(replace(CASE, rows=64), Times({"own": 2.0}, {}))
    assert TimesFile(path).cases.keys() == {CASE.key, replace(CASE, rows=64).key}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema": 2, "cases": {}}',
        '{"schema": 1}',
        '{"schema": 1, "cases": []}',
        '{"schema": 1, "cases": {"a": {"ms": {"own": -1.0}, "refused": {}}}}',
        '{"schema": 1, "cases": {"a": {"ms": {"own": "1"}, "refused": {}}}}',
        '{"schema": 1, "cases": {"a": {"ms": {}, "refused": {"own": 1}}}}',
        '{"schema": 1, "cases": {"a": {"ms": {}}}}',
    ],
)
def test_a_broken_file_is_measured_again_with_a_warning(tmp_path, text):
    path = tmp_path / "times.json"
    path.write_text(text)
    file = TimesFile(path)
    assert (file.get(CASE), len(file.warnings)) == (None, 1)
    assert file.warnings[0].startswith(f"{path}: ")
    assert file.warnings[0].endswith("; times of attention are measured again")
    measured(file, CASE, calls("own"), lambda _: 1.0)
    assert TimesFile(path).get(CASE) == Times({"own": 1.0}, {})
    assert json.loads(path.read_text())["schema"] == 1


def test_a_folder_that_takes_no_file_is_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    file = TimesFile(tmp_path / "file" / "times.json")
    times = measured(file, CASE, calls("own"), lambda _: 1.0)
    assert file.get(CASE) == times
    assert [warning for warning in file.warnings if "every process measures them" in warning]
