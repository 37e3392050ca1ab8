"""Scorers of packages, and the tasks that name them: refused in one line."""

import re

import numpy as np
import pytest
from test_extensions import SCORER

from pcbench import registry
from pcbench.cli import main
from pcbench.errors import ConfigError
from pcbench.tasks import load_task
from pcbench.tasks.scorers import Metric


@pytest.mark.parametrize(
    ("returned", "got"),
    [("100.0", "100.0"), ("float('nan')", "nan"), ("'much'", "'much'"), ("said['x']", "TypeError: string indices .*")],
)
def test_a_scorer_that_gives_no_share_is_one_line_and_leaves_the_others(returned, got, install, tmp_path, capsys):
    install(
        "wrong",
        {"scorers": {"echo": "wrong:echo"}},
        {"wrong.py": SCORER.replace("float(said == answers[0])", returned).replace("{EVERY:", '{"qasper":')},
    )
    (tmp_path / "qasper.jsonl").write_text('{"pred": "a", "answers": ["a"], "all_classes": null, "length": 1}\n')
    words = ["score", str(tmp_path), "--benchmark", "longbench", "--json", "--scorer"]
    for scorer, code in (("all", 0), ("echo", 2)):
        with pytest.raises(SystemExit) as ended:
            main([*words, scorer])
        printed = capsys.readouterr()
        assert (ended.value.code or 0, bool(printed.out)) == (code, code == 0)
        assert re.fullmatch(rf"(error: )?scorer echo: echoed from 0 to 1, got {got}; mend its function\n", printed.err)


def test_a_score_is_a_float_whatever_number_a_scorer_returns():
    metric = Metric(name="m", function=lambda said, answers: np.float32(0.5))
    assert type(metric("a", ["a"])) is float


def test_a_scorer_of_a_package_cannot_print_under_the_name_of_another(install):
    install("posing", {"scorers": {"mine": "posing:echo"}}, {"posing.py": SCORER.replace('id="echo"', 'id="needle"')})
    with pytest.raises(ConfigError, match=r"^scorer mine of posing 1\.0: a scorer whose id is mine, got needle;"):
        registry.load(registry.SCORERS, "scorer", "mine", "here")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("scorer", 'scorer: unknown scorer "unheard"'),
        ("generator", 'generator: unknown generator "unheard"'),
        ("dataset", r'dataset: unknown dataset of longbench-official\+indel "unheard"'),
    ],
)
def test_a_task_of_a_package_that_names_nothing_is_refused_when_it_is_loaded(key, message, install):
    table = {
        "summary": "s",
        "version": 1,
        "generator": "noise",
        "scorer": "longbench-official+indel",
        "dataset": "qasper",
    }
    table |= {"instruction": "", "question": "?", key: "unheard"}
    install("vague", {"tasks": {"vague": "vague:TABLE"}}, {"vague.py": f"TABLE = {table!r}"})
    with pytest.raises(ConfigError, match=rf"^task vague of vague 1\.0: {message}"):
        load_task("vague", "here")
