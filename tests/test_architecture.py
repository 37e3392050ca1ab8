"""Sizes, names and places that the design fixes."""

import ast
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON = [
    p for folder in ("pcbench", "build_backend", "tools", "examples", "tests") for p in (ROOT / folder).rglob("*.py")
]
PACKAGE = [p for p in PYTHON if p.is_relative_to(ROOT / "pcbench")]
ROOT_ENTRIES = {
    *(".ci", ".clang-format", ".dockerignore", ".git", ".gitignore", ".github", "CHANGELOG.md", "CMakeLists.txt"),
    *("CONTRIBUTING.md", "Dockerfile"),
    *(
        "DESIGN.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "build_backend",
        "docs",
        "examples",
        "ext",
        "mkdocs.yml",
        "pcbench",
        "pyproject.toml",
        "reports",
    ),
    *("suites", "tests", "tools"),
}
BANNED_NAMES = ("utils", "util", "helpers", "common", "misc", "manager", "wrapper", "wrappers")


def tracked():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git repository: nothing says which files belong to the project")
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def functions(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, body_lines(node)


def body_lines(node):
    """Lines of a function without its docstring."""
    first = node.body[0]
    has_docstring = ast.get_docstring(node) is not None
    return node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if has_docstring else 0)


def lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def test_only_known_entries_stand_at_the_root():
    assert {p.relative_to(ROOT).parts[0] for p in tracked()} <= ROOT_ENTRIES


def test_imports_go_down_the_floors():
    tool = Path(sys.executable).with_name("lint-imports")
    assert tool.exists(), "pip install import-linter"
    done = subprocess.run([tool], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_files_and_functions_stay_small():
    package = [lines(p) for p in PACKAGE]
    assert statistics.median(package) <= 120
    assert {p.name: lines(p) for p in PYTHON if lines(p) > 350 and not p.is_relative_to(ROOT / "tests")} == {}
    sizes = [size for p in PACKAGE for _, size in functions(p)]
    assert statistics.quantiles(sizes, n=10)[-1] <= 35
    assert {f"{p.name}:{f.name}": n for p in PACKAGE for f, n in functions(p) if n > 70} == {}


def test_no_folder_holds_more_than_fifteen_modules():
    count = Counter(p.parent.relative_to(ROOT).as_posix() for p in PACKAGE)
    assert {folder: n for folder, n in count.items() if n > 15} == {}


def test_kernel_files_stay_small():
    kernels = [p for kind in ("*.cpp", "*.h", "*.inc", "*.cu", "*.cuh") for p in (ROOT / "ext").rglob(kind)]
    assert kernels
    assert {p.name: lines(p) for p in kernels if lines(p) > 500} == {}


def test_no_module_has_a_name_that_says_nothing():
    assert [p for p in PACKAGE if p.stem in BANNED_NAMES or p.stem.startswith("base_")] == []


def test_public_functions_are_documented_and_annotated():
    bare = []
    for path in PACKAGE:
        module = ast.parse(path.read_text(encoding="utf-8"))
        for node in module.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            if ast.get_docstring(node) is None and not node.name.startswith("check_"):
                bare.append(f"{path.name}:{node.name}")
            if isinstance(node, ast.FunctionDef) and node.returns is None:
                bare.append(f"{path.name}:{node.name} returns")
    assert bare == []


def test_every_module_says_what_it_is():
    assert [p for p in PACKAGE if ast.get_docstring(ast.parse(p.read_text(encoding="utf-8"))) is None] == []


def test_the_project_speaks_only_of_itself():
    words = ("/" + "work/", "/" + "opt/wheels", "sub" + "agent", "farm" + "-bench")
    found = []
    for path in tracked():
        if path.suffix in (".py", ".md", ".toml", ".sh", ".cpp", ".h", ".inc", ".j2", ".html", ".txt", ".yml", ""):
            text = path.read_text(encoding="utf-8", errors="ignore")
            found += [f"{path.relative_to(ROOT)}: {word}" for word in words if word in text]
    assert found == []


def test_nothing_large_is_tracked():
    assert {p.name: p.stat().st_size for p in tracked() if p.stat().st_size > 600_000} == {}
