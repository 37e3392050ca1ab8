"""A slow-down that is measured, not made up, from the kernels to the exit code."""

import json
import time

import pytest
import torch

from pcbench.cli import main
from pcbench.harness.kinds.kernel import group as kernel_group
from pcbench.harness.runner import Options, run
from pcbench.measure.kernels.baselines import VARIANTS
from pcbench.measure.kernels.timing import RepeatedCall

SUITE = """
# One kernel cell of well under 2 s.
[suite]
kind = "kernel"
rounds = 20
grid = "tiny"
dtype = "float32"
reference_up_to_gflop = 0
[[kernel]]
op = "calibrated_attention"
[kernel.grid.tiny]
baselines = ["sdpa-flash", "tested"]
shapes = [{ heads = 4, kv_heads = 2, keys = 256, dim = 64, mass_rows = 1 }]
"""


@pytest.fixture
def measured(tmp_path, monkeypatch, console):
    """Runs the suite with the method `tested` registered as the kernel with so many rows of mass.

    The clock is the process's own time on one thread: whatever else a machine for tests does, is not counted.
    """
    monkeypatch.setattr("pcbench.measure.machine.ceilings.PROBE_S", 0.0)
    monkeypatch.setattr(kernel_group, "make_sampler", lambda call, device: RepeatedCall(call, time.process_time))
    path = tmp_path / "tiny.toml"
    path.write_text(SUITE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def measure(name, mass_rows):
        monkeypatch.setitem(VARIANTS["calibrated_attention"], "tested", {"mass_rows": mass_rows})
        folder, records = run(Options(suite=str(path), device="cpu", out=tmp_path / name), console)
        assert {record.status for record in records} == {"ok"}
        return str(folder.path)

    yield measure
    torch.set_num_threads(threads)


def test_compare_finds_a_method_that_does_more_work(measured, capsys):
    # every row's mass instead of none's
    folders = [measured("before", 0), measured("after", 256)]
    with pytest.raises(SystemExit) as ended:
        main(["compare", *folders, "--fail-on", "5%", "--json"])
    found = {change["name"].partition(" on ")[0]: change for change in json.loads(capsys.readouterr().out)["times"]}
    assert (found["tested"]["verdict"], found["tested"]["ratio"]) == ("regression", "speedup_vs_baseline")
    assert found["tested"]["ci_low"] > 1.05
    assert ended.value.code == 3
