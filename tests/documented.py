"""The blocks of code of README and docs/, and how each of them is tested."""

import os
import re
import shlex
import subprocess
import sys
import sysconfig

import pytest
from documentation import PAGES, ROOT

TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
FENCE = re.compile(r"(?:<!-- (run|dry-run|slow|install|container|python)(?:: (\w+))? -->\n)?```(\w+)\n(.*?)```", re.S)
# (page, how it is tested, in which fixture's folder, language, text)
BLOCKS = [(name, *found) for name, text in TEXTS.items() for found in FENCE.findall(text)]
# scripts of clusters have a test of their own
TAGGED = {
    "sh": ("run", "dry-run", "slow", "install", "container"),
    "bash": ("",),
    "python": ("python",),
    "toml": ("",),
}


# pip without a network; the second is named after what it turns off
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def lines(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def blocks(page, kind):
    """Texts of a page's blocks that are tested in one way."""
    return [text for name, tested, _, _, text in BLOCKS if (name, tested) == (page, kind)]


def words_of(command):
    """Of a command for several processes, what each of them runs; of one for a container, what runs in it."""
    words = shlex.split(command, comments=True)
    if words[:2] == ["docker", "run"]:
        return words[words.index("pcbench") :]
    return words[words.index("--no-python") + 1 :] if words[0] == "torchrun" else words


def dry(line):
    """The same with `--dry-run` where it measures, in a container too; nothing that a shell reads is touched."""
    measures = words_of(line)[:2] == ["pcbench", "run"]
    return f"{line.partition(' #')[0].rstrip()} --dry-run" if measures else line


def by_shell(text, path, **more):
    """Runs the lines of a block as a user does who pastes them; returns what they print.

    Args:
        text: the block.
        path: the folder of programs that comes first.
        more: of `subprocess.run`; `environment` is what the shell knows beside this process's variables.
    """
    environment = os.environ | more.pop("environment", {}) | {"PATH": f"{path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-euc", text], capture_output=True, text=True, env=environment, **more)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def environment_beside_ours(folder, editable=True):
    """A fresh environment that sees the packages installed here, with a `pip` and a `pcbench` that work in it.

    Args:
        folder: of the environment.
        editable: whether it sees this clone, where it is installed as editable.

    Returns:
        Its folders of programs and of packages.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    programs, (site,) = folder / "bin", (folder / "lib").glob("python*/site-packages")
    ours = sysconfig.get_path("purelib")
    (site / "beside.pth").write_text(f"import site; site.addsitedir({ours!r})\n" if editable else f"{ours}\n")
    for name, words in (
        ("pip", f"{sys.executable} -m pip --python {folder}"),
        ("pcbench", f"{programs / 'python'} -m pcbench"),
    ):
        (programs / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (programs / name).chmod(0o755)
    return programs, site


def clone(folder):
    """A fresh clone of this repository, without what was not committed."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository to clone")
    subprocess.run(["git", "clone", "-q", ROOT, folder], check=True, capture_output=True)
    return folder
