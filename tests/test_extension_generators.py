"""Generators of packages: their prompts are answered and scored, their faults are those of one cell."""

import pytest
from harness_suite import ACCURACY

from pcbench import registry
from pcbench.errors import ConfigError
from pcbench.harness.doctor import diagnose
from pcbench.harness.runner import Options, run
from pcbench.models.tokens import ByteTokenizer
from pcbench.records import RunFolder
from pcbench.tasks import example, load_task

GENERATOR = '''"""Counts to the index."""
from pcbench.tasks import Example
def counting(request):
    encode = request.tokenizer.encode
    counted = " ".join(map(str, range(request.index + 3)))
    return Example(
        id=request.id, task=request.name, prefix=tuple(encode("Count: ")), context=tuple(encode(counted)),
        query=tuple(encode(" and")), answers=(str(request.index + 3),), key_span=None,
        new_tokens=request.new_tokens, prompts="ours/1",
    )
'''
TASKS = """
[counts]
summary = "the next number"
version = 1
generator = "counting"
scorer = "needle"
question = ""
instruction = ""
new_tokens = 3
"""
POINTS = {"generators": {"counting": "counts.code:counting"}, "tasks": {"counts": "counts:tasks.toml"}}


@pytest.fixture
def counts(install):
    def brought(code=GENERATOR, points=POINTS):
        install("counts", points, {"counts/__init__.py": "", "counts/code.py": code, "counts/tasks.toml": TASKS})

    return brought


@pytest.fixture
def options(tmp_path):
    (tmp_path / "answers.toml").write_text(ACCURACY)
    more = {"tasks": ["counts"], "sets": ["suite.prompts=2"], "out": tmp_path / "run"}
    return Options(str(tmp_path / "answers.toml"), "cpu", **more)


def test_a_generator_of_a_package_builds_the_prompts_of_its_task(counts, options, console):
    counts()
    more = {"context_tokens": 300, "new_tokens": None, "seed": 0}
    built = example("counts", ByteTokenizer(), index=1, **more)
    assert (ByteTokenizer().decode(built.context), built.answers, built.new_tokens) == ("0 1 2 3", ("4",), 3)
    folder, records = run(options, console)
    assert [(r.status, r.task, r.n_samples or 2) for r in records] == [("ok", "counts@1", 2)] * 2
    assert {s.index: s.answers for s in folder.samples.read()} == {0: ["3"], 1: ["4"]}
    held = RunFolder(folder.path).manifest["environment"]["extensions"]["generator counting"]
    assert held["package"] == "counts 1.0"
    assert {f.subject: f.usable for f in diagnose()}["generator counting"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise RuntimeError('odd')", "RuntimeError: odd"),
        ("return None", "generator counting: a pcbench.tasks.Example, got None; docs"),
    ],
)
def test_a_generator_that_fails_is_the_error_of_its_cells(body, reason, counts, options, console):
    counts(f"def counting(request):\n    {body}\n")
    _, records = run(options, console)
    assert {r.status for r in records} == {"error"}
    assert all(reason in r.reason and "\n" not in r.reason for r in records)


def test_what_is_wrong_with_a_generator_is_one_line_where_its_task_is_loaded(counts):
    counts(points=POINTS | {"generators": {"counting": "counts.code:gone"}})
    with pytest.raises(
        ConfigError, match=r"^generator counting of counts 1\.0: counts\.code with gone, got none; mend"
    ):
        load_task("counts", "here")


def test_a_generator_that_pcbench_has_too_is_refused(counts):
    counts(points={"generators": {"noise": "counts.code:counting"}})
    with pytest.raises(
        ConfigError, match=r"^generator noise: one package that brings it, got pcbench and counts 1\.0;"
    ):
        registry.load(registry.GENERATORS, "generator", "noise", "here")
