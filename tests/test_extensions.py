"""What installed packages bring: found without an import, refused by name, one line where it is broken."""

import json
import subprocess
import sys

import pytest
import torch
from tiny import letters_tokenizer

from pcbench import registry
from pcbench.cli import main
from pcbench.errors import ConfigError
from pcbench.extensions import module_file
from pcbench.harness.doctor import diagnose
from pcbench.harness.options import Options
from pcbench.harness.plan import plan
from pcbench.suites import load_suite, suite_summaries
from pcbench.tasks import load_task

METHOD = '''"""A method of one line."""
import sys
from pcbench.methods.full import Full
class Mine(Full):
    """The class itself."""
'''
SUITE = """# Is it quick?
[suite]
kind = "accuracy"
tasks = ["riddle"]
context_tokens = [300]
model = "random:mine"
dtype = "float32"
prompts = 1
[[cell]]
method = "mine"
"""
TASKS = """
[defaults]
version = 3
scorer = "echo"
instruction = "Read.\\n"
[riddle]
summary = "a riddle"
generator = "noise"
needle = "It is {key}.\\n"
question = "It is"
"""
MODELS = '["random:mine"]\nsummary = "one layer"\nfamily = "llama"\nlayers = 1\nhidden = 64\nheads = 2\nkv_heads = 1\n'
MODELS += "head_dim = 32\nmlp = 96\nvocab = 300\npositions = 1024\nrope_base = 1e4\n"
SCORER = '''"""A scorer."""
from pcbench.tasks.scorers import EVERY, Metric, Scorer
echo = Scorer(id="echo", version=2, summary="1 where it is the key", source="us",
    metrics={EVERY: Metric(name="echoed", function=lambda said, answers: float(said == answers[0]))})
'''
EVERYTHING = {
    "methods": {"mine": "mine.method:Mine"},
    "tasks": {"riddle": "mine:riddles.toml"},
    "scorers": {"echo": "mine.scorer:echo"},
    "models": {"random:mine": "mine:models.toml"},
    "suites": {"quickly": "mine:suite.toml"},
}
FILES = {
    "mine/__init__.py": "",
    "mine/method.py": METHOD,
    "mine/scorer.py": SCORER,
    "mine/riddles.toml": TASKS,
    "mine/models.toml": MODELS,
    "mine/suite.toml": SUITE,
}


@pytest.fixture
def mine(install):
    install("my-package", EVERYTHING, FILES)


def test_everything_a_package_brings_is_listed_with_its_name_and_not_imported(mine, capsys):
    assert registry.summaries(registry.METHODS)["mine"] == "A method of one line. (my-package 1.0)"
    assert suite_summaries()["quickly"] == "Is it quick? (my-package 1.0)"
    assert registry.task_tables()["riddle"]["summary"] == "a riddle"
    assert registry.model_tables()["random:mine"]["layers"] == 1
    assert "mine" not in sys.modules
    assert registry.scorer_summaries()["echo"] == "1 where it is the key (my-package 1.0)"
    with pytest.raises(SystemExit):
        main(["list", "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert listed["tasks"]["riddle"] == "a riddle (my-package 1.0)"
    assert listed["models"]["random:mine"] == "one layer (my-package 1.0)"
    assert "mine.method" not in sys.modules


def test_what_a_package_brings_is_used_by_its_name(mine):
    from mine.method import Mine

    suite = load_suite("quickly", "cpu")
    assert (suite.name, suite.cells[0].method, suite.workloads[0].task) == ("quickly", "mine", "riddle")
    assert registry.load(registry.METHODS, "method", "mine", "here") is Mine
    task = load_task("riddle", "here")
    assert (task.version, task.scorer_id, task.score_name) == (3, "echo@2", "echoed")


def test_a_table_may_be_an_object_of_a_module(install):
    table = {"summary": "s", "version": 1, "generator": "noise", "scorer": "needle", "instruction": "", "question": "?"}
    files = {"other.py": f"TASK = {table!r}\nWRONG = [1]\n"}
    install("other", {"tasks": {"asked": "other:TASK", "wrong": "other:WRONG"}}, files)
    assert load_task("asked", "here").question == "?"
    with pytest.raises(ConfigError, match=r"^task wrong of other 1\.0: a table, got \[1\] at other:WRONG; docs/"):
        load_task("wrong", "here")


def test_a_wrong_table_is_one_line_by_key_path(install):
    files = {"bad/__init__.py": "", "bad/t.toml": '[one]\nsummary = "s"\nvershion = 1\n[two]\nlike = "paskey"\n'}
    install("bad", {"tasks": {"one": "bad:t.toml", "three": "bad:gone.toml"}}, files)
    with pytest.raises(ConfigError, match=r't\.toml: two\.like: unknown table "paskey"; did you mean "passkey"'):
        load_task("one", "here")
    with pytest.raises(ConfigError, match=r"^task three of bad 1\.0: package:FILE\.toml .* got bad:gone\.toml;"):
        load_task("three", "here")


@pytest.mark.parametrize("name", ["full", "twice"])
def test_a_name_that_two_packages_give_is_refused_by_both(name, install, capsys):
    install("first", {"methods": {name: "first:Full"}}, {"first.py": '"""First."""'})
    if name == "twice":
        install("second", {"methods": {name: "second:Full"}}, {"second.py": '"""Second."""'})
    givers = "pcbench and first 1.0" if name == "full" else r"(first|second) 1.0 and (first|second) 1.0"
    with pytest.raises(ConfigError, match=rf"^method {name}: one package that brings it, got {givers}; uninstall one"):
        load_suite("prefill", "cpu", methods=[name])
    with pytest.raises(SystemExit):
        main(["list", "methods"])
    printed = capsys.readouterr()
    assert f"\n{name} " not in printed.out
    assert "parallel_comp" in printed.out
    assert printed.err.startswith(f"method {name}: one package that brings it")
    assert len(printed.err.splitlines()) == 1


BROKEN = {
    "methods": {"fails": "broken:Fails"},
    "scorers": {"fails": "broken:fails"},
    "tasks": {"fails": "broken:FAILS"},
    "models": {"fails": "broken:FAILS"},
    "suites": {"fails": "broken:fails.toml"},
}
NOT_IMPORTED = "of broken 1.0: a module that can be imported, got broken: RuntimeError: no luck; mend broken 1.0"


@pytest.fixture
def broken(install):
    install("broken", BROKEN, {"broken.py": 'raise RuntimeError("no luck\\nand more")'})


@pytest.mark.parametrize("what", BROKEN)
def test_a_package_that_fails_to_import_is_one_line_and_leaves_the_others(what, mine, broken, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["list", what, "--json"])
    printed = capsys.readouterr()
    assert ended.value.code in (0, None)
    assert next(iter(EVERYTHING[what])) in json.loads(printed.out)
    assert "fails" not in json.loads(printed.out)
    (line,) = printed.err.splitlines()
    expected = (
        NOT_IMPORTED if what != "suites" else "of broken 1.0: package:FILE.toml or package:FILE.jsonl with a file"
    )
    assert line.startswith(f"{what[:-1]} fails {expected}")


def test_doctor_says_of_every_extension_whether_it_can_be_used(mine, broken):
    found = {f.subject: f for f in diagnose()}
    for group in EVERYTHING:
        (name,) = EVERYTHING[group]
        assert (found[f"{group[:-1]} {name}"].usable, found[f"{group[:-1]} {name}"].detail) == (
            True,
            "of my-package 1.0",
        )
        assert not found[f"{group[:-1]} fails"].usable


UNUSABLE = {
    "tasks": ("odd", 'task odd of odd 1.0: unknown key "vershion"'),
    "models": ("random:odd", "model random:odd of odd 1.0: family: a value is required"),
    "suites": ("odd", 'unknown task "riddle"'),
}


def test_doctor_says_no_of_tables_that_can_be_read_and_not_used(install):
    files = {
        "odd/__init__.py": "",
        "odd/t.toml": TASKS.replace("[riddle]", "[odd]\nvershion = 1"),
        "odd/m.toml": '["random:odd"]\nsummary = "s"\n',
        "odd/s.toml": SUITE,
    }
    install("odd", {group: {name: f"odd:{group[0]}.toml"} for group, (name, _) in UNUSABLE.items()}, files)
    found = {f.subject: f for f in diagnose()}
    for group, (name, said) in UNUSABLE.items():
        finding = found[f"{group[:-1]} {name}"]
        assert not finding.usable
        assert said in finding.detail


def test_scores_need_no_scorer_that_is_broken(mine, broken, tmp_path, capsys):
    (tmp_path / "qasper.jsonl").write_text('{"pred": "a", "answers": ["a"], "all_classes": null, "length": 1}\n')
    words = ["score", str(tmp_path), "--benchmark", "longbench", "--json", "--scorer"]
    for scorer, lines in (("longbench-official+indel", []), ("all", [f"scorer fails {NOT_IMPORTED}"])):
        with pytest.raises(SystemExit) as ended:
            main([*words, scorer])
        printed = capsys.readouterr()
        assert ended.value.code in (0, None)
        assert json.loads(printed.out)
        assert [line[: len(expected)] for line, expected in zip(printed.err.splitlines(), lines, strict=True)] == lines


def test_what_is_needed_of_a_broken_package_is_one_line(broken):
    with pytest.raises(ConfigError, match=f"^method fails {NOT_IMPORTED}"):
        registry.load(registry.METHODS, "method", "fails", "here")


def test_a_method_that_is_none_is_refused_by_what_it_lacks(install):
    install(
        "bare", {"methods": {"bare": "bare:Bare", "gone": "bare:Gone"}}, {"bare.py": "class Bare:\n    backends = ()"}
    )
    with pytest.raises(
        ConfigError,
        match=r"^method bare of bare 1\.0: a method with .* without Config\.model_validate, .*, prefill, step;",
    ):
        registry.load(registry.METHODS, "method", "bare", "here")
    with pytest.raises(ConfigError, match=r"^method gone of bare 1\.0: bare with Gone, got none; mend bare 1\.0"):
        registry.load(registry.METHODS, "method", "gone", "here")


@pytest.mark.parametrize("backends", ["()", '("cpu",)', '"ops"', "None"])
def test_a_method_of_unknown_backends_is_refused(install, backends):
    code = METHOD + f"    backends = {backends}\n"
    install("odd", {"methods": {"odd": "odd:Mine"}}, {"odd.py": code})
    with pytest.raises(
        ConfigError, match=r'^method odd of odd 1\.0: .*Mine.* with backends \("ops",\), .*, got .*; docs'
    ):
        registry.load(registry.METHODS, "method", "odd", "here")


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("def resolve(self, spec, device, task=''): return 1 / 0", "resolve"),
        ("def resolve(self, spec, device, task=''): return None", "resolve"),
        ("def cost(self, spec, tokens): return 1 / 0", "cost"),
        ("def cost(self, spec, tokens): return None", "cost"),
    ],
)
def test_a_config_that_fails_is_one_line_with_its_package(install, code, name, tmp_path):
    code = f"{METHOD}    class Config(Full.Config):\n        {code}\n"
    install("odd", {"methods": {"odd": "odd:Mine"}}, {"odd.py": code})
    message = (
        rf"^method odd of odd 1\.0: Config\.{name} without an error, got \w+Error: .+; docs/extending.md says how$"
    )
    with pytest.raises(ConfigError, match=message):
        plan(Options("prefill", "cpu", model="random:tiny", methods=["odd"], sets=["suite.context_tokens=[300]"]))


def test_a_place_names_a_method_without_any_entry_point(tmp_path, monkeypatch):
    (tmp_path / "loose_method.py").write_text(METHOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = "loose_method:Mine"
    sets = [f"cell.{name}.up_to=5000", f"cell.{name}.config.some.key=3"]
    suite = load_suite("prefill", "cpu", methods=[name], sets=sets)
    assert [(c.method, c.backend, c.up_to, c.config) for c in suite.cells] == [
        (name, "auto", 5000, {"some": {"key": 3}})
    ]
    assert registry.load(registry.METHODS, "method", name, "here").__name__ == "Mine"
    with pytest.raises(
        ConfigError, match=r"^here: a module that can be imported, got nowhere: ModuleNotFoundError: No"
    ):
        registry.load(registry.METHODS, "method", "nowhere:Mine", "here")
    with pytest.raises(ConfigError, match=r"^here: a method that other processes can import, got __main__:Mine; put"):
        registry.load(registry.METHODS, "method", "__main__:Mine", "here")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("./plug.py:Stock", "write plug:Stock"),
        ("plug.py:Stock", "write plug:Stock"),
        ("sub/plug.py", "write sub.plug:NAME"),
        ("my-plug.py:Stock", "rename it and write my_plug:Stock"),
        ("/else/plug.py:Stock", "write plug:Stock with /else on PYTHONPATH"),
        ("../plug.py:Stock", r"write plug:Stock with \.\. on PYTHONPATH"),
    ],
)
def test_a_file_in_place_of_a_module_is_told_what_to_write(name, remedy):
    message = rf"^{{}}: the name of a method or module:NAME, got {name}; {remedy}$"
    with pytest.raises(ConfigError, match=message.format("--method")):
        load_suite("prefill", "cpu", methods=[name])
    with pytest.raises(ConfigError, match=message.format("answer")):
        registry.load(registry.METHODS, "method", name, "answer")


def test_a_method_that_the_suite_lacks_gets_a_cell_of_its_defaults(mine):
    suite = load_suite("prefill", "cpu", methods=["full", "mine"], sets=["cell.mine.reference_up_to=7"])
    assert [(c.method, c.backend, c.reference_up_to) for c in suite.cells] == [
        ("full", "torch", None),
        ("mine", "auto", 7),
    ]


@pytest.mark.parametrize("module", ["json", "xml.dom", "pcbench.report", "pcbench.names"])
def test_a_module_file_is_found_without_an_import(module):
    code = f"import sys; from pcbench.extensions import module_file as f; print(f({module!r}), 'xml' in sys.modules)"
    path, imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()
    assert path == __import__(module, fromlist=["x"]).__file__
    assert imported == "False"


def test_a_module_without_a_source_has_no_file():
    assert module_file("no.such.thing") is None
    # compiled, in the interpreter or in a file of its own
    assert module_file("_json") is None
    assert module_file("__main__.x") is None


def test_a_model_of_a_package_is_one_of_random_weights_or_one_that_lies_somewhere(mine, install, tmp_path):
    from pcbench.models import model_spec
    from pcbench.models.catalog import _random_model

    assert (model_spec("random:mine").layers, model_spec("random:mine").trained) == (1, False)
    _random_model("random:mine", torch.device("cpu"), torch.float32, {}).save_pretrained(tmp_path / "stored")
    letters_tokenizer().save_pretrained(tmp_path / "stored")
    tables = {"HERE": {"summary": "s", "id": str(tmp_path / "stored"), "weights": "ours"}, "NOWHERE": {"summary": "s"}}
    files = {"kept.py": "".join(f"{name} = {table!r}\n" for name, table in tables.items())}
    install("kept", {"models": {"stored": "kept:HERE", "lost": "kept:NOWHERE", "random:odd": "kept:NOWHERE"}}, files)
    spec = model_spec("stored")
    assert (spec.name, spec.layers, spec.weights, spec.trained) == ("stored", 1, "ours", True)
    with pytest.raises(ConfigError, match=r"^model lost of kept 1\.0: id: a value is required, got none; docs/"):
        model_spec("lost")
    with pytest.raises(ConfigError, match=r"^model random:odd of kept 1\.0: family: a value is required"):
        model_spec("random:odd")
