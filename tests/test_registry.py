import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pcbench
from pcbench import registry
from pcbench.errors import ConfigError

PACKAGE = Path(pcbench.__file__).parent


def modules(table, depth):
    """Modules of a table, or the packages `depth` names deep that hold them."""
    return {".".join(entry.split(":")[0].split(".")[:depth]) for entry in table.values()}


@pytest.mark.parametrize(
    ("table", "folder"),
    [(registry.METHODS, "methods"), (registry.SCORERS, "tasks/scorers")],
    ids=["methods", "scorers"],
)
def test_table_and_folder_name_the_same_modules(table, folder):
    dotted = "pcbench." + folder.replace("/", ".")
    entries = [p for p in (PACKAGE / folder).iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()]
    # scorers share their measures, methods what they are made of
    shared = ("__init__", "metrics", "eviction", "whole_cache")
    files = {f"{dotted}.{p.stem}" for p in entries if p.stem not in shared}
    assert modules(table, dotted.count(".") + 2) == files


@pytest.mark.parametrize("table", [registry.METHODS, registry.SCORERS, registry.GENERATORS], ids=["m", "s", "g"])
def test_every_entry_loads(table):
    for name in table:
        assert registry.load(table, "entry", name, "test") is not None


def test_load_names_the_nearest():
    with pytest.raises(ConfigError, match='here: unknown method "parallel_cmp"; did you mean "parallel_comp"'):
        registry.load(registry.METHODS, "method", "parallel_cmp", "here")


@pytest.mark.parametrize("method", registry.METHODS)
def test_only_its_own_file_and_the_registry_name_a_method(method):
    own = registry.METHODS[method].split(":")[0].rsplit(".", 1)[1]
    # answers.py, attached.py, ask.py: defaults of pcbench.answer, .attach and pcbench ask; measured.py: the baseline;
    # environment.py: the package of kvpress
    allowed = {f"{own}.py", "registry.py", "answers.py", "attached.py", "ask.py", "measured.py", "environment.py"}
    for path in PACKAGE.rglob("*.py"):
        if path.name in allowed or own in path.parts:
            continue
        module = ast.parse(path.read_text())
        # what a module exports is named as it likes
        module.body = [n for n in module.body if getattr(getattr(n, "targets", [None])[0], "id", "") != "__all__"]
        strings = [n.value for n in ast.walk(module) if isinstance(n, ast.Constant)]
        assert method not in strings, f"{path} holds the name {method}"


def test_summaries_are_there_for_everything():
    for summaries in (
        registry.summaries(registry.METHODS),
        registry.scorer_summaries(),
        registry.op_summaries(),
    ):
        assert all(summaries.values())


def test_op_summaries_are_the_reference_ops():
    from pcbench import reference
    from pcbench.ops import triton_refusal

    listed = registry.op_summaries()
    assert list(listed) == list(reference.__all__)
    in_triton = {op for op, summary in listed.items() if summary.endswith(" Also in Triton.")}
    assert in_triton == set(triton_refusal.KERNELS)


@pytest.mark.parametrize(
    "module", ["pcbench", "pcbench.api", "pcbench.cli", "pcbench.report", "pcbench.tasks.scorecards.scorecard"]
)
def test_importing_what_lists_and_reports_imports_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
