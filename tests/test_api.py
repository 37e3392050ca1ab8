"""`pcbench` from Python: a run, its records and its page, a model by its name."""

import os
from datetime import date

import numpy as np
import pytest
import transformers
from harness_suite import ACCURACY
from tiny import letters_tokenizer, make_runner

import pcbench
from pcbench.config import Table
from pcbench.errors import ConfigError, DataMissing
from pcbench.harness import plan
from pcbench.models import smollm2
from pcbench.records import read_records
from pcbench.tasks.files import data_dir
from pcbench.types import Record


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answers.toml").write_text(ACCURACY)
    (tmp_path / "data").mkdir()
    return tmp_path


def test_a_run_gives_frames_and_goes_on(here, capsys):
    said = {"suite": "answers.toml", "device": "cpu", "sets": ["suite.tasks=[passkey]"], "limit": 1, "out": "run"}
    run = pcbench.run(**said)
    frame = run.records()
    assert [*frame.columns] == [*Record.__dataclass_fields__]
    assert frame.to_dict("records")[0]["cell"] == read_records(here / "run")[0].cell
    assert [*run.samples().cell] == [*frame.cell]
    capsys.readouterr()
    assert pcbench.run(**said, resume=True) == run == pcbench.Run("run")
    assert capsys.readouterr().err == ""
    with pytest.raises(ConfigError, match=r"^--out: a new folder, got run with a run in it"):
        pcbench.run(**said)


def test_a_run_that_fails_leaves_the_data_folder_as_it_was(here, monkeypatch):
    before, outside, told = dict(os.environ), data_dir(), []
    (here / "run").mkdir()
    (here / "run" / "records.csv").touch()
    sets = {"data.dir": here / "data", "suite.tasks": ["passkey"]}
    with monkeypatch.context() as patch:
        real = plan.set_data_dir
        patch.setattr(plan, "set_data_dir", lambda folder: (real(folder), told.append(data_dir())))
        with pytest.raises(ConfigError, match=r"^--out: a new folder, got run with records\.csv in it"):
            pcbench.run("answers.toml", device="cpu", sets=sets, out="run")
    assert told == [here / "data"]
    with pytest.raises(DataMissing, match="no such file"):
        pcbench.run("nowhere.toml", device="cpu")
    assert (dict(os.environ), data_dir()) == (before, outside)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (True, "true"),
        ("a b", "a b"),
        ("3", '"3"'),
        ([1024, "x"], '[1024, "x"]'),
        ({"zone": "all", "layers": [0, 1]}, '{"zone" = "all", "layers" = [0, 1]}'),
        ("1\x7f", "1\x7f"),
        (["1\x7f"], '["1\\u007f"]'),
        (np.int64(3), "3"),
        ([np.float32(0.5), np.bool_(True)], "[0.5, true]"),
        (np.str_("3"), '"3"'),
        (float("inf"), "inf"),
        (1e22, "1e+22"),
    ],
)
def test_values_are_told_as_on_a_command_line(value, text):
    from pcbench.api import _told
    from pcbench.config import parse_value

    assert _told({"cell.x.y": value}) == [f"cell.x.y={text}"]
    assert parse_value(text) == value


@pytest.mark.parametrize("path", ["suite.repeats", "cell.x.y", "cell.x.z"])
@pytest.mark.parametrize("value", [None, date(2024, 7, 26), {1, 2}, b"3", np.datetime64("2024-07-26"), 1j])
def test_a_value_that_has_no_place_in_a_table_is_one_line_that_names_it(path, value):
    told = {"suite.repeats": value, "cell.x.y": {"z": value}, "cell.x.z": [3, value]}[path]
    at = {"suite.repeats": path, "cell.x.y": r"cell\.x\.y\.z", "cell.x.z": r"cell\.x\.z\[1\]"}[path]
    remedy = "leave the key out" if value is None else "make sets a list of texts"
    with pytest.raises(ConfigError, match=rf"^run: sets: {at}: a text, .* or a table, got .*; {remedy}"):
        pcbench.run("prefill", device="cpu", sets={path: told})


def test_what_is_no_text_in_a_list_of_sets_is_refused():
    with pytest.raises(
        ConfigError, match=r'^run: sets: texts as "suite\.repeats=3" or a table, got \(.*\); write KEY='
    ):
        pcbench.run("prefill", device="cpu", sets=[("suite.repeats", 3)])


def test_folders_and_a_date_are_said_as_on_a_command_line(here):
    make_runner(bos_token_id=256).model.save_pretrained(here / "stored")
    letters_tokenizer().save_pretrained(here / "stored")
    (here / "1").mkdir()
    more = {"device": "cpu", "limit": 1, "methods": ["full"]}
    told = {"data.dir": "1", "suite.tasks": ["passkey"], "suite.dtype": "float32"}
    frame = pcbench.run("answers.toml", model=here / "stored", sets=told, out="one", **more).records()
    assert frame[["model", "status"]].values.tolist() == [[str(here / "stored"), "ok"]]
    sets = ["suite.chat_date=2024-07-27", "suite.tasks=[passkey]"]
    assert [*pcbench.run("answers.toml", sets=sets, out="two", **more).records().status] == ["ok"]
    assert pcbench.load_model(here / "stored", device="cpu").model.config.num_hidden_layers == 2


@pytest.mark.parametrize("name", ["methods", "tasks", "sets"])
def test_a_text_in_place_of_a_list_is_refused(name):
    with pytest.raises(ConfigError, match=f"^run: {name}: a list, got 'full'; put it into brackets"):
        pcbench.run("prefill", **{name: "full"})


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(here, limit):
    with pytest.raises(ConfigError, match=rf"^--limit: at least 1, got {limit}; leave it out"):
        pcbench.run("answers.toml", device="cpu", limit=limit, out="run")
    assert not (here / "run").exists()


def test_a_class_in_place_of_a_methods_name_is_refused():
    with pytest.raises(ConfigError, match=r"^run: methods: names, got .*Table.*; put it into a module and name it"):
        pcbench.run("prefill", methods=[Table])


def test_a_model_by_its_name_answers(here):
    bars = transformers.utils.logging.is_progress_bar_enabled()
    model, tokenizer = pcbench.load_model("random:tiny", device="cpu")
    assert transformers.utils.logging.is_progress_bar_enabled() == bars
    found = pcbench.answer(model, tokenizer, context="one two three " * 30, question="?", new_tokens=2, chunk_tokens=99)
    assert len(found.ids) == 2
    assert found.kept_chunks is not None
    with pytest.raises(ConfigError, match=r"^load_model: dtype: float32, bfloat16, float16, got 'int8'"):
        pcbench.load_model("random:tiny", device="cpu", dtype="int8")
    with pytest.raises(ConfigError, match='unknown model "random:tinny"'):
        pcbench.load_model("random:tinny", device="cpu")


@pytest.mark.skipif(not smollm2.is_installed(), reason=smollm2.INSTALL)
def test_the_packaged_model_comes_with_its_own_tokenizer():
    loaded = pcbench.load_model("smollm2-135m", device="cpu")
    assert loaded.tokenizer.decode(loaded.tokenizer("a pass key").input_ids) == "a pass key"
    assert not any(p.requires_grad for p in loaded.model.parameters())


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert pcbench.__version__ == version("pcbench")
    assert {"run", "Run", "load_model", "answer", "__version__"} <= {*dir(pcbench)}
