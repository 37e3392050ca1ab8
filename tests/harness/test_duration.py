"""How long a run takes: before it begins, while it goes on, and beside its estimate."""

import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pcbench import registry
from pcbench.cli import main
from pcbench.errors import Interrupted
from pcbench.harness import runner
from pcbench.harness.duration import Remaining, spoken
from pcbench.harness.kinds import Estimate
from pcbench.harness.kinds.kernel import estimate as of_kernels
from pcbench.harness.kinds.methods import estimate as of_methods
from pcbench.harness.plan import plan
from pcbench.harness.runner import Options, run
from pcbench.measure.machine import load
from pcbench.measure.machine.ceilings import Ceilings
from pcbench.measure.machine.load import busy
from pcbench.records import RunFolder
from pcbench.system.terminal import Terminal

CEILINGS = Ceilings(1e9, 1e9)


def row(key, seconds, passes, why_not=None):
    return Estimate(key, key, passes, seconds, {}, why_not)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (59, "59 s"), (60, "1 min"), (3500, "58 min"), (7500, "2 h 5 min")]
)
def test_a_duration_is_said_as_people_do(seconds, words):
    assert spoken(seconds) == words


def test_what_is_left_learns_from_finished_passes():
    now = 0.0
    remaining = Remaining([row("a", 50, 5), row("b", 50, 5), row("c", 900, 9, "not here")], lambda: now)
    assert remaining.left() == 100
    # time that passes is no longer left
    now = 10.0
    assert remaining.left() == 90
    # each pass takes twice as long as estimated
    for i in range(6):
        now = 20.0 * i
        remaining.began("a")
    assert remaining.left() == pytest.approx(50 * (100 + 10) / (50 + 10))
    remaining.finished("a")
    remaining.began("b")
    assert remaining.left() == pytest.approx(50 * 110 / 60)
    now = 100 + 95
    assert remaining.left() == 0
    remaining.finished("b")
    remaining.finished("strange")
    assert remaining.left() == 0


@pytest.mark.parametrize(("by_prompt", "share"), [(False, (50, 5)), (True, (25, 3))])
def test_a_rank_has_its_groups_and_its_share_of_prompts_before_it(by_prompt, share, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    planned = SimpleNamespace(kind=SimpleNamespace(by_prompt=by_prompt))
    begun = runner.Begun(planned, Path("run"), set(), [row("a", 50, 5), row("b", 10, 1)], None)
    mine = [[SimpleNamespace(cell=SimpleNamespace(key="a"))]]
    remaining = runner._remaining(begun, mine)
    assert (remaining.total, remaining.passes["a"]) == share
    assert remaining.estimated.keys() == {"a"}


def test_nothing_is_left_of_nothing():
    assert Remaining([], lambda: 0.0).left() == 0


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((0.9, 2, 1.0), None),
        # of what has just ended
        ((4.0, 2, 0.1), None),
        ((4.7, 2, 1.0), "this machine is busy: load 4.7 on 2 cores before the run; times suffer"),
        ((1.0, 1, 0.5), "this machine is busy: load 1.0 on 1 core before the run; times suffer"),
    ],
)
def test_a_machine_is_busy_where_half_of_its_cores_are(found, expected):
    assert busy(*found) == expected


def forbidden(*_):
    raise AssertionError("an estimate is made of probes and counts")


@pytest.mark.parametrize("name", ["prefill", "perplexity"])
def test_an_estimate_of_methods_is_made_of_probes_and_counts(name, monkeypatch):
    planned = plan(Options(name, "cpu", model="random:tiny", sets=["suite.context_tokens=[700]"], methods=["full"]))
    monkeypatch.setattr(of_methods, "glance_at_ceilings", forbidden)
    monkeypatch.setattr("time.perf_counter", forbidden)
    (one, *_), (again, *_), (twice, *_) = (
        list(of_methods.estimates(planned.cells, planned.kind.spec, Ceilings(rate, rate))) for rate in (1e9, 1e9, 2e9)
    )
    assert one == again
    # a model is loaded once a group, and once for each pass of peak memory
    spec, children = planned.kind.spec, 3 if name == "prefill" else 0
    load = spec.parameters * getattr(torch, planned.cells[0].cell.dtype).itemsize / of_methods.LOADED_PER_S["cpu"]
    assert 2 * twice.seconds - one.seconds == pytest.approx(of_methods.START_S * children + load * (children + 1))


def test_an_estimate_of_kernels_is_made_of_probes_and_counts(monkeypatch):
    cells = plan(Options("kernels", "cpu", methods=["calibrated_attention"])).cells
    monkeypatch.setattr(of_kernels, "glance_at_ceilings", forbidden)
    monkeypatch.setattr("time.perf_counter", forbidden)
    probed = dict.fromkeys(("float32", "bfloat16"), CEILINGS)
    found = list(of_kernels.estimates(cells, probed))
    assert found == list(of_kernels.estimates(cells, probed))
    assert [estimate.key for estimate in found] == [prepared.cell.key for prepared in cells]
    slower = of_kernels.estimates(cells, dict.fromkeys(probed, Ceilings(5e8, 5e8)))
    assert sum(e.seconds for e in slower) == pytest.approx(2 * sum(e.seconds for e in found), rel=0.01)


TOY = """
[suite]
kind = "toy"
numbers = [10, 1000, 100000]
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Options of a run of sums."""
    monkeypatch.setitem(registry.KINDS, "toy", "toy_kind:Toy")
    (tmp_path / "sums.toml").write_text(TOY)
    return Options(str(tmp_path / "sums.toml"), "cpu", out=tmp_path / "run")


def test_a_run_says_how_long_it_takes_and_keeps_what_it_took(toy, capsys, monkeypatch):
    monkeypatch.setattr(load, "_load", lambda: 99.0)
    monkeypatch.setattr("psutil.cpu_percent", lambda interval: 100.0)
    folder, records = run(toy, Terminal(stderr=True))
    line = busy(99.0, os.cpu_count(), 1.0)
    announced, said, *cells = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"3 cells, about 0 s, until \d\d:\d\d", announced)
    assert said == line
    assert [bool(re.match(r"\[\d/3, about \d+ s left\] sum", text)) for text in cells] == [True, True, False]
    assert cells[2].startswith("[3/3] sum")
    (start,) = folder.manifest["starts"]
    assert (start["busy"], start["took_s"] >= 0, start["estimated_s"]) == (line, True, 0.0)
    assert [record.warnings for record in records] == [[line]] * 3
    # nothing is left to do
    run(replace(toy, resume=True), Terminal(stderr=True))
    first, last = folder.manifest["starts"]
    assert (first, last["estimated_s"]) == (start, 0.0)
    assert line in capsys.readouterr().err


def test_an_interrupted_start_has_not_taken_any_time(toy, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "measure_group", interrupted)
    with pytest.raises(Interrupted):
        run(toy, Terminal(stderr=True))
    (start,) = RunFolder(toy.out).manifest["starts"]
    assert start["took_s"] is None
    assert start["busy"] is None


def test_a_dry_run_on_a_busy_machine_says_so(toy, capsys, monkeypatch):
    monkeypatch.setattr(load, "_load", lambda: 99.0)
    monkeypatch.setattr("psutil.cpu_percent", lambda interval: 100.0)
    with pytest.raises(SystemExit):
        main(["run", "--suite", toy.suite, "--device", "cpu", "--dry-run"])
    *_, line, last = capsys.readouterr().out.splitlines()
    assert line == f"{busy(99.0, os.cpu_count(), 1.0)}, and so does this estimate"
    assert last == "3 cells on cpu, about 0 s by a short probe; nothing was measured"
