"""`pcbench choose` as it is typed, and the commands that it prints."""

import argparse
import json
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from report.made_choices import SPEC, peak, scored
from report.made_kernels import kernel_records
from report.made_runs import write_run

from pcbench.cli import main
from pcbench.errors import ConfigError
from pcbench.harness.calibrate import Asked as Calibration
from pcbench.harness.calibrate import calibrate
from pcbench.harness.options import Options
from pcbench.harness.plan import plan
from pcbench.report.reading.results import Results
from pcbench.report.reading.runs import read_runs
from pcbench.report.verdict.choosing.asked import Asked
from pcbench.report.verdict.choosing.candidates import settings
from pcbench.report.verdict.choosing.commands import Missing, accuracy_commands, memory_commands
from pcbench.report.verdict.choosing.suite_files import SuiteFiles
from pcbench.system.terminal import Terminal
from pcbench.types import Record

# the package has the function of this name
MODULE = import_module("pcbench.cli.choose")
EXAMPLES = Path(__file__).resolve().parent.parent / "reports/examples"
ASKED = ["--memory", "24GiB", "--context", "32768"]


@pytest.fixture
def folder(tmp_path):
    hits = {"full": 40, "snapkv": 38, "h2o": 12}
    records = [one for name, n in hits.items() for one in (peak(name, 20.0), scored(name, n))]
    records += [peak("pyramidkv", 16.0, context_tokens=8192), peak("full", 16.0, context_tokens=8192)]
    return str(write_run(tmp_path / "run", records, model=SPEC))


def printed(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["choose", *arguments])
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    return said.out


def test_a_sentence_comes_first_and_the_table_fits_eighty_columns(folder, capsys, monkeypatch):
    monkeypatch.setattr(MODULE, "out", Terminal(width=80))
    lines = printed(capsys, folder, *ASKED).splitlines()
    assert lines[0] == (
        "3 of 4 methods fit in 24.0 GiB at 32,768 tokens: full attention, SnapKV and H2O. For 1 the records cannot "
        "tell. No method is shown to be more accurate than full attention or SnapKV; H2O is shown to be less "
        "accurate than another."
    )
    table = lines[2 : next(i for i, line in enumerate(lines) if line.startswith("Score: "))]
    assert table[0] == "example-8b, bfloat16, Example GPU (sm_90, CUDA 13.0), 32,768 tokens"
    assert max(map(len, table)) <= 80
    assert "fits: 20.0 GiB" in table[2]
    assert [line for line in lines if "pcbench run --suite memory --model example-8b" in line]


def test_json_says_the_same(folder, capsys, monkeypatch):
    monkeypatch.setattr(MODULE, "out", Terminal(width=200))
    text = printed(capsys, folder, *ASKED)
    data = json.loads(printed(capsys, folder, *ASKED, "--json"))
    assert (data["memory_bytes"], data["context_tokens"]) == (24 << 30, 32768)
    (found,) = data["settings"]
    assert text.startswith(found["answer"])
    assert [m["label"] for m in found["methods"]] == ["Full attention", "SnapKV", "H2O", "PyramidKV"]
    for method in found["methods"]:
        (row,) = [line for line in text.splitlines() if line.startswith(f"{method['label']} ")]
        assert method["memory"] in row
        assert method["reading"] in row
    h2o = found["methods"][2]
    assert (h2o["fit"], h2o["behind"], h2o["score"]["value"]) == ("fits", ["Full attention", "SnapKV"], 0.3)
    assert found["methods"][3]["most_bytes"] is None
    for command in (*found["commands"]["memory"], *found["commands"]["accuracy"]):
        assert f"  {command}\n" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*ASKED, "--model", "nothing"], "--model: unknown model of the records"),
        (["--memory", "24"], "--memory: a size with its unit, as 24GiB or 80GB, got '24'; write it so"),
        (["--context", "0"], "Invalid value for '--context'"),
        (["no such folder"], "no such folder"),
    ],
)
def test_what_cannot_be_answered_is_one_line(folder, capsys, arguments, said):
    with pytest.raises(SystemExit, match="2"):
        main(["choose", folder, *arguments])
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_runs_without_methods_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["choose", str(write_run(tmp_path / "run", kernel_records()))])
    assert capsys.readouterr().err == f"{MODULE.NOTHING}\n"


def test_runs_of_memory_accuracy_and_speed_answer_together():
    """Of the example runs of one machine: the memory of one, the scores of another, the speeds of a third."""
    names = ("memory_methods", "accuracy_methods", "throughput_methods")
    runs = read_runs([EXAMPLES / f"{name}_epyc2c_202611" for name in names])
    (setting,) = settings(Results(runs), Asked(800 << 20, 4096))
    h2o = next(c for c in setting.candidates if c.label == "H2O")
    assert h2o.need.fit(800 << 20) == "fits"
    assert [better.label for better in setting.better[h2o]] == ["Full attention"]
    assert h2o.speed is not None
    assert {c.need.fit(800 << 20) for c in setting.candidates} == {"fits", "cannot tell"}


def planned(commands):
    """The cells of commands, as `pcbench run` would plan them."""
    parser = argparse.ArgumentParser()
    for name in ("suite", "model", "device", "preset"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--set", action="append", default=[])
    for command in commands:
        program, run, *words = shlex.split(command)
        assert (program, run) == ("pcbench", "run")
        said = parser.parse_args(words)
        options = Options(said.suite, said.device, preset=said.preset, model=said.model, sets=said.set)
        yield from (prepared.cell for prepared in plan(options).cells)


def test_commands_plan_the_very_cells_that_are_missing(tmp_path):
    """Of every method with its defaults, and of one with nested tables: the same config, backend and dtype."""
    sets = [
        "suite.methods=[parallel_comp]",
        "cell.parallel_comp.evict.share=0.5",
        "cell.parallel_comp.calibration=paper",
    ]
    options = [Options("memory", "cpu", preset="all"), Options("memory", "cpu", sets=sets)]
    cells = [prepared.cell for one in options for prepared in plan(one).cells if prepared.resolved]
    records = [Record.of(cell, run="made", status="error", reason="made") for cell in cells]
    run = write_run(tmp_path / "run", records)
    (setting,) = settings(Results(read_runs([run])), Asked(context=8192))
    assert len(setting.candidates) == len({json.dumps([c.method, c.method_config], sort_keys=True) for c in cells})
    for wanted in (memory_commands, accuracy_commands):
        keys = []
        files = SuiteFiles(tmp_path / wanted.__name__)
        for said in (Missing.command, files.command):
            found = list(planned(wanted(setting, said)))
            known = [(cell.method, cell.method_config, cell.backend, cell.dtype, cell.context_tokens) for cell in found]
            for c in cells:
                assert (c.method, c.method_config, c.backend, c.dtype, 8192) in known, c.name
            keys.append([cell.key for cell in found])
        # the suite of a file is that of its name
        assert keys[0] == keys[1]


@pytest.fixture
def of_a_table(tmp_path):
    """A setting with a method of head groups from a table of the model's, and that table's file."""
    table = tmp_path / "entropies"
    calibrate(Calibration("random:tiny", out=table, samples=1, tokens=300), lambda line: None)
    sets = ["suite.methods=[full, uncomp]", f"cell.uncomp.table={json.dumps(str(table))}", "suite.context_tokens=[900]"]
    cells = [x.cell for x in plan(Options("memory", "cpu", model="random:tiny", sets=sets)).cells]
    records = [Record.of(cell, run="made", status="error", reason="made") for cell in cells]
    runs = read_runs([write_run(tmp_path / "run", records)])
    (setting,) = settings(Results(runs), Asked(context=900))
    return setting, cells, table


def test_head_groups_of_a_table_are_not_written_out_and_another_table_is_refused(of_a_table):
    setting, cells, table = of_a_table
    (command,) = memory_commands(setting)
    assert cells[1].method_config["head_groups"]
    assert "head_groups =" not in command
    assert [cell.key for cell in planned([command])] == [cell.key for cell in cells]
    calibrate(Calibration("random:tiny", out=table, samples=1, tokens=301, force=True), lambda line: None)
    held = cells[1].method_config["table_sha256"]
    with pytest.raises(
        ConfigError, match=rf"table_sha256: the entropy table {held}, got .*; name the file of that one"
    ):
        list(planned([command]))


def test_files_make_commands_short_and_replace_none(folder, tmp_path, capsys):
    place = tmp_path / "suites"
    text = printed(capsys, folder, *ASKED, "--suites", str(place))
    commands = [line.strip() for line in text.splitlines() if line.startswith("  pcbench run ")]
    assert commands == [
        f"pcbench run --suite {place}/{name}.toml --model example-8b --device cuda --preset missing1"
        for name in ("memory", "accuracy_smoke")
    ]
    with pytest.raises(SystemExit, match="2"):
        main(["choose", folder, *ASKED, "--suites", str(place)])
    assert capsys.readouterr().err == (
        f"--suites: a folder without memory.toml, got one in {place}; name another folder\n"
    )
