"""Code of other packages: a manifest names it, `--resume` refuses another, compare shows it."""

import sys
from hashlib import sha256

import pytest

from pcbench.errors import ConfigError
from pcbench.extensions import imported
from pcbench.harness.runner import Options, run
from pcbench.report.compare.environment import environment_changes
from pcbench.report.compare.runs import read_compared

SUITE = """
# A riddle.
[suite]
kind = "accuracy"
tasks = ["riddle"]
context_tokens = [300]
prompts = 1
model = "random:tiny"
dtype = "float32"
new_tokens = 2
[[cell]]
method = "mine"
"""
TASKS = """
[riddle]
summary = "a riddle"
version = 1
scorer = "echo"
generator = "whisper"
instruction = "Read.\\n"
needle = "It is {key}.\\n"
question = "It is"
"""
METHOD = '''"""A method."""
from pcbench.methods.full import Full
class Mine(Full):
    """The class."""
'''
PROMPTS = """
from pcbench.tasks.scorers import EVERY, Metric, Scorer
from pcbench.tasks.synthetic.needles import noise
echo = Scorer(id="echo", version=2, summary="s", source="us",
    metrics={EVERY: Metric(name="echoed", function=lambda said, answers: float(said == answers[0]))})
def whisper(*arguments):
    return noise(*arguments)
"""
# the package hands on what a module of it defines
FILES = {
    "mine/__init__.py": "from mine.method import Mine\n",
    "mine/method.py": METHOD,
    "mine/prompts.py": PROMPTS,
    "mine/riddles.toml": TASKS,
    "mine/riddle.toml": SUITE,
}
POINTS = {
    "methods": {"mine": "mine:Mine"},
    "tasks": {"riddle": "mine:riddles.toml"},
    "scorers": {"echo": "mine.prompts:echo"},
    "generators": {"whisper": "mine.prompts:whisper"},
    "suites": {"riddle": "mine:riddle.toml"},
}


def source(text):
    return sha256(text.encode()).hexdigest()


def forget_modules():
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def test_other_code_than_a_run_began_with_is_refused_and_shown(install, tmp_path, console):
    install("my-package", POINTS, FILES)
    options = {"suite": "riddle", "device": "cpu", "limit": 1, "out": tmp_path / "run"}
    folder, records = run(Options(**options), console)
    assert [record.status for record in records] == ["ok"]
    began = folder.manifest
    held = began["environment"]["extensions"]
    assert held == {
        "method mine": {"package": "my-package 1.0", "sha256": source(METHOD)},
        "generator whisper": {"package": "my-package 1.0", "sha256": source(PROMPTS)},
        "scorer echo": {"package": "my-package 1.0", "sha256": source(PROMPTS)},
    }
    again = Options(**options, resume=True)
    assert run(again, console)[1] == records
    # as a run wrote it that began with an older release
    older = held | {"method mine": {"package": "my-package 0.9", "sha256": source("")}}
    folder.write_manifest(began | {"environment": began["environment"] | {"extensions": older}})
    refused = (
        r"^--resume: method mine of my-package 0\.9 \(sha256 e3b0c44298fc\), with which .*run began, got my-package 1"
    )
    with pytest.raises(ConfigError, match=refused):
        run(again, console)
    # without the key, as older pcbench wrote it
    folder.write_manifest(began | {"environment": {k: v for k, v in began["environment"].items() if k != "extensions"}})
    assert run(again, console)[1] == records
    folder.write_manifest(began)

    (tmp_path / "site/mine/method.py").write_text(f"{METHOD}# edited\n")
    with pytest.raises(ConfigError, match=r"method\.py as it was imported, got one that has changed since; restart "):
        run(Options(**options | {"out": tmp_path / "mixed"}), console)
    assert not (tmp_path / "mixed").exists()
    # as after a restart
    forget_modules()
    with pytest.raises(
        ConfigError, match=rf"^--resume: method mine .*{source(METHOD)[:12]}.* got my-package 1\.0 \(sha"
    ):
        run(again, console)
    other, _ = run(Options(**options | {"out": tmp_path / "other"}), console)
    changes = environment_changes(read_compared([folder.path, other.path]))
    assert changes["extensions.method mine.sha256"] == [source(METHOD), source(f"{METHOD}# edited\n")]


def test_a_module_that_was_loaded_again_is_taken(tmp_path, monkeypatch):
    from importlib import reload

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "reloaded_method.py"
    path.write_text("class Mine:\n    number = 1\n")
    assert imported("reloaded_method:Mine", "here", "").number == 1
    path.write_text("class Mine:\n    number = 22\n")
    with pytest.raises(ConfigError, match=r"^here: .*reloaded_method\.py as it was imported, got one that has changed"):
        imported("reloaded_method:Mine", "here", "")
    reload(sys.modules["reloaded_method"])
    assert imported("reloaded_method:Mine", "here", "").number == 22
    del sys.modules["reloaded_method"]
