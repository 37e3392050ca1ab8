"""A stranger's package, built into a wheel and installed beside pcbench: nothing of pcbench is edited for it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from documented import OFFLINE, blocks, by_shell, dry, environment_beside_ours, lines
from installed import installs

from pcbench.api import Run
from pcbench.measure.machine.environment import sources_sha256
from pcbench.records import RunFolder

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "my_method"
NARROW = {"suite.context_tokens": [600], "suite.repeats": 2, "suite.peak_passes": 1}
# a script as people write it, which a child that ran it again would measure again
SCRIPT = f"""
import os, sys
import pcbench
assert "torch" not in sys.modules
before = dict(os.environ)
sets = {NARROW!r} | {{"cell.chunk_window.chunk_tokens": 100, "cell.chunk_window.backend": "auto", "data.dir": "."}}
run = pcbench.run("chunk_window", device="cpu", model="random:tiny", sets=sets, out="run")
assert dict(os.environ) == before
print(run.report().name, len(run.records()), len(run.samples()))
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "tests"]))
"""


def ran(words, **more):
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


# of the page: installing it, and what runs then
INSTALL, *RUNS = lines(*blocks("extending.md", "install"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A fresh environment beside our own, with the package of the page's block and one that fails to import."""
    place = tmp_path_factory.mktemp("stranger")
    shutil.copytree(EXAMPLE, place / "examples/my_method")
    programs, site = environment_beside_ours(place / "env")
    said = by_shell(INSTALL, programs, cwd=place, environment=OFFLINE | {"PIP_NO_DEPS": "1"})
    assert "Successfully installed my-method-0.1.0" in said
    installs(site, "broken", {"methods": {"fails": "broken:Fails"}}, {"broken.py": 'raise RuntimeError("no luck")'})
    shutil.copytree(EXAMPLE / "tests", place / "tests")
    return place


@pytest.mark.slow
@pytest.mark.parametrize("command", RUNS)
def test_its_commands_run_as_printed(place, command):
    assert "chunk_window" in by_shell(dry(command), place / "env/bin", cwd=place)


def test_a_strangers_package_is_listed_beside_one_that_fails(place):
    done = ran([place / "env/bin/python", "-m", "pcbench", "list", "--json"], cwd=place)
    listed = json.loads(done.stdout)
    assert listed["methods"]["chunk_window"].startswith("Chunk by chunk, each read over the first chunk")
    assert listed["methods"]["chunk_window"].endswith(" (my-method 0.1.0)")
    assert listed["tasks"]["passkey_late"].startswith("a five-digit key in the last tenth")
    assert listed["suites"]["chunk_window"].endswith("Needs no downloads. (my-method 0.1.0)")
    assert "parallel_comp" in listed["methods"]
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "method fails of broken 1.0: a module that can be imported, got broken: RuntimeError: no luck"
    )


def test_its_method_is_checked_timed_against_full_and_reported(place):
    (place / "script.py").write_text(SCRIPT)
    sources_sha256.cache_clear()
    before = sources_sha256()
    done = ran([place / "env/bin/python", "script.py"], cwd=place)
    assert done.stdout.splitlines()[0] == "report.html 2 4"
    # of the example's own test
    assert "3 passed" in done.stdout
    cells = [line.partition("] ")[2] for line in done.stderr.splitlines() if line.startswith("[")]
    assert [line.partition(" on ")[0] for line in cells] == ["Full attention", "chunk_window"]
    frame = Run(place / "run").records().set_index("backend")
    assert [*frame.method] == ["full", "chunk_window"]
    assert [*frame.status] == ["ok", "ok"]
    assert frame.peak_bytes.notna().all()
    assert set(frame.task) == {"passkey_late@1"}
    ours = frame.loc["cpu"]
    assert ours.baseline.startswith("full/torch")
    assert ours.speedup_vs_full > 0
    assert 0 < ours.parity_err < ours.parity_bound
    assert ours.parity_ops.keys() == {"cached_attention"}
    assert ours.method_config == {"chunk_tokens": 100, "window": 2}
    assert (ours.chunks, ours.chunks_kept) == (5, 3)
    assert "chunk_window/cpu" in (place / "run" / "report.html").read_text()
    held = RunFolder(place / "run").manifest["environment"]["extensions"]
    assert held.keys() == {"method chunk_window"}
    assert held["method chunk_window"]["package"] == "my-method 0.1.0"
    sources_sha256.cache_clear()
    assert sources_sha256() == before
