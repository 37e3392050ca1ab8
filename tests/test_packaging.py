"""What is packaged: the sdist holds what a build needs, its wheel runs anywhere, the Dockerfile names what exists."""

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from zipfile import ZipFile

import pytest
from documented import OFFLINE, blocks, by_shell, clone, environment_beside_ours
from pcbench_build import TORCH
from release import notes

from pcbench.suites import suite_names

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# what CMake, the backend and the metadata read
FOLDERS = ("build_backend", "ext", "pcbench", "reports/templates", "suites", "tools")
FILES = ("CMakeLists.txt", "LICENSE", "README.md", "pyproject.toml")
SDIST = "import sys; sys.path.insert(0, 'build_backend'); import pcbench_build as b; b.build_sdist(sys.argv[1])"


def ran(words, **more):
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done


def needed():
    """Files of the project that a build reads, by what git knows."""
    listed = ran(["git", "-C", ROOT, "ls-files", *FOLDERS, *FILES]).stdout.splitlines()
    return {path for path in listed if (ROOT / path).is_file()}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository: nothing says which files belong to the project")
    folder = tmp_path_factory.mktemp("dist")
    ran([sys.executable, "-c", SDIST, folder], cwd=ROOT)
    (path,) = folder.iterdir()
    return path


def test_the_sdist_holds_what_a_build_needs(sdist):
    head = f"pcbench-{PROJECT['project']['version']}"
    assert sdist.name == f"{head}.tar.gz"
    with tarfile.open(sdist) as archive:
        held = {name.removeprefix(f"{head}/") for name in archive.getnames()}
    assert sorted(needed() - held) == []
    assert [name for name in held if name.startswith(("tests/", "reports/examples/", "build/"))] == []
    # what CMake installs and runs by name
    cmake = (ROOT / "CMakeLists.txt").read_text() + (ROOT / "ext/CMakeLists.txt").read_text()
    named = re.findall(r"DIRECTORY (\S+)/ DESTINATION|CMAKE_SOURCE_DIR}/(\S+\.py)", cmake)
    assert named
    assert [a or b for a, b in named if not any(name.startswith(a or b) for name in held)] == []


@pytest.fixture(scope="module")
def wheel(sdist):
    """Built without a network from the sdist alone."""
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-C", "cmake.define.PCBENCH_BACKEND=cpu"]
    ran([sys.executable, "-m", "pip", "wheel", "-q", *options, "-w", sdist.parent, sdist], cwd=sdist.parent)
    (path,) = sdist.parent.glob("*.whl")
    return path


(INSTALL,) = blocks("getting_started.md", "install")


def test_pip_takes_what_a_fresh_clone_says_of_itself(tmp_path):
    programs, _ = environment_beside_ours(tmp_path / "env")
    without = {"PIP_DRY_RUN": "1", "PIP_IGNORE_INSTALLED": "1", "PIP_NO_DEPS": "1"}
    said = by_shell(INSTALL, programs, cwd=clone(tmp_path / "clone"), environment=OFFLINE | without)
    assert said.splitlines()[-1] == f"Would install pcbench-{PROJECT['project']['version']}"


@pytest.mark.slow
def test_pip_installs_a_fresh_clone_as_printed(tmp_path):
    programs, _ = environment_beside_ours(tmp_path / "env", editable=False)
    by_shell(INSTALL, programs, cwd=clone(tmp_path / "clone"), environment=OFFLINE)
    program = programs / "pcbench"
    assert ran([program, "--version"], cwd=tmp_path).stdout == f"pcbench {PROJECT['project']['version']}\n"
    place = ran([program.with_name("python"), "-c", "import pcbench; print(pcbench.__file__)"], cwd=tmp_path).stdout
    assert Path(place).is_relative_to(tmp_path / "env")
    assert "FAIL" not in ran([program, "check", "--device", "cpu", "--op", "calibrated_attention"], cwd=tmp_path).stdout


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_its_data_and_nothing_else(wheel):
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {path for path in needed() if path.startswith("pcbench/")}
    data = {f"pcbench/_data/{path}" for path in needed() if fnmatch(path, "suites/*.toml")}
    data |= {
        f"pcbench/_data/{path.removeprefix('reports/')}" for path in needed() if path.startswith("reports/templates/")
    }
    built = {"pcbench/libpcbench_cpu.so", f"pcbench/_build_info{sysconfig.get_config_var('EXT_SUFFIX')}"}
    assert held == ours | data | built


@pytest.mark.slow
def test_the_wheel_runs_in_a_fresh_environment_from_any_folder(wheel, tmp_path):
    ran([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"])
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", tmp_path / "env"]
    ran([*pip, "install", "-q", "--no-deps", "--no-index", wheel])
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    # what it needs, as it is installed here; a path alone does not make this checkout importable
    (site / "needed.pth").write_text(sysconfig.get_path("purelib"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    python, env = tmp_path / "env/bin/python", {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def pcbench(*words):
        return ran([python, "-m", "pcbench", *words], cwd=elsewhere, env=env).stdout

    place = ran([python, "-c", "import pcbench; print(pcbench.__file__)"], cwd=elsewhere, env=env).stdout
    assert Path(place).is_relative_to(tmp_path)
    assert pcbench("--version") == f"pcbench {PROJECT['project']['version']}\n"
    assert json.loads(pcbench("list", "--json"))["suites"].keys() == set(suite_names())
    assert "FAIL" not in pcbench("check", "--device", "cpu", "--op", "calibrated_attention")
    sets = ["--set", "suite.context_tokens=[700]", "--set", "suite.workloads=[passkey]", "--set", "suite.peak_passes=1"]
    words = ["--suite", "prefill", "--device", "cpu", "--model", "random:tiny", "--limit", "1", *sets, "--out", "run"]
    assert pcbench("run", *words).splitlines()[-1] == "run/report.html"
    assert "parallel_comp" in (elsewhere / "run/report.html").read_text()


def test_the_dockerfile_copies_what_exists_and_a_build_needs():
    copied = [word for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.M) for word in line.split()]
    assert sorted(copied) == sorted((*FILES, *FOLDERS))
    assert [name for name in copied if not (ROOT / name).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert sorted(line[1:] for line in ignored if line.startswith("!")) == sorted(copied)


def test_the_dockerfile_builds_the_flavours_that_the_environment_script_knows():
    stages = dict(re.findall(r"^FROM (\S+) AS tools-(\S+)$", DOCKERFILE, re.M))
    assert sorted(stages.values()) == ["cpu", "cuda", "rocm"]
    backends = re.findall(r"^ENV BACKEND=(\S+) TORCH=\"(\S+)\" TORCH_INDEX=(\S+)$", DOCKERFILE, re.M)
    cmake = (ROOT / "CMakeLists.txt").read_text()
    assert {name for name, *_ in backends} == set(re.search(r"\^\(auto\|([\w|]+)\)\$", cmake)[1].split("|"))
    script = (ROOT / "tools/make_env.sh").read_text()
    for backend, torch, index in backends:
        assert torch in (TORCH, *PROJECT["project"]["dependencies"])
        # make_env.sh takes CUDA's torch from PyPI
        assert index in script or backend == "cuda"
    # nvcc is of the major version that torch is built for
    (toolkit,) = (image.partition(":")[2] for image, flavour in stages.items() if flavour == "cuda")
    (cuda,) = (index.rpartition("/cu")[2] for backend, _, index in backends if backend == "cuda")
    assert toolkit.replace(".", "").startswith(cuda)
    extras = re.search(r"\"\.\[([\w,]+)\]\"", DOCKERFILE)[1].split(",")
    assert set(extras) <= PROJECT["project"]["optional-dependencies"].keys()
    build = PROJECT["build-system"]["requires"]
    assert [needs for needs in build if needs.partition(">")[0] not in DOCKERFILE] == []


def test_wheels_are_built_for_every_python_that_is_supported():
    found = PROJECT["tool"]["cibuildwheel"]
    versions = [int(re.match(r"cp3(\d+)-manylinux_x86_64", name)[1]) for name in found["build"]]
    assert f">=3.{versions[0]}" == PROJECT["project"]["requires-python"]
    assert versions == list(range(versions[0], versions[-1] + 1))
    # what the library needs of torch is left to torch
    linked = re.findall(r"lib/(lib\w+\.so)\)", (ROOT / "ext/torch.cmake").read_text())
    assert re.findall(r"--exclude (\S+)", found["repair-wheel-command"]) == linked
    for command in found["test-command"]:
        assert shlex.split(command)[0] == "pcbench"


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("v1.2.3", None),
        ("1.2.3", "release: tag v1.2.3 as pyproject.toml has it, got 1.2.3; change the version or the tag"),
        ("v1.2.4", "release: tag v1.2.3 as pyproject.toml has it, got v1.2.4; change the version or the tag"),
    ],
)
def test_a_tag_is_the_version(tag, message):
    changelog = "# Changelog\n\n## Unreleased\n- x\n\n## 1.2.3 (2027-01-02)\n\n### Added\n- y\n\n## 1.2.2\n- z\n"
    if message is None:
        assert notes(tag, "1.2.3", changelog) == "### Added\n- y\n"
    else:
        with pytest.raises(SystemExit, match=re.escape(message)):
            notes(tag, "1.2.3", changelog)


def test_a_version_without_a_section_is_not_released():
    with pytest.raises(SystemExit, match=r"^release: a section ## 1\.2\.3 in CHANGELOG\.md, got none; rename"):
        notes("v1.2.3", "1.2.3", "# Changelog\n\n## Unreleased\n- x\n")
