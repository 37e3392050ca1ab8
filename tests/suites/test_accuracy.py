import pytest

from pcbench.errors import ConfigError
from pcbench.suites import load_suite

SUITE = """
[suite]
kind = "accuracy"
benchmark = "longbench"
tasks = ["qasper", "longbench/lcc", "passkey"]
average = ["qasper", "lcc"]
context_tokens = [64, 128]
[device.cpu]
model = "random:tiny"
dtype = "float32"
[device.gpu]
model = "random:llama-3-8b"
dtype = "bfloat16"
prompts = 3
[[cell]]
method = "full"
backend = "torch"
up_to = 64
[[cell]]
method = "parallel_comp"
backend = ["auto", "reference"]
reference_up_to = 64
[preset.small]
tasks = ["lcc"]
prompts = 2
new_tokens = 5
"""


@pytest.fixture
def suite_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SUITE)
    return str(path)


def test_tasks_are_untimed_workloads_with_short_names(suite_file):
    workloads = load_suite(suite_file, "cpu").workloads
    assert [(w.name, w.task, w.timed, w.prompts) for w in workloads] == [
        ("qasper", "longbench/qasper", False, None),
        ("lcc", "longbench/lcc", False, None),
        ("passkey", "passkey", False, None),
    ]


def test_averaged_tasks_have_the_names_of_their_workloads(suite_file):
    named = ["suite.average=[longbench/qasper, lcc]"]
    assert load_suite(suite_file, "cpu", sets=named).settings.average == ["qasper", "lcc"]


def test_a_preset_chooses_tasks_and_set_changes_them_last(suite_file):
    small = load_suite(suite_file, "rocm", preset="small")
    assert [(w.name, w.prompts, w.new_tokens) for w in small.workloads] == [("lcc", 2, 5)]
    changed = load_suite(suite_file, "cpu", preset="small", sets=["suite.tasks=[qasper, passkey]"])
    assert [w.name for w in changed.workloads] == ["qasper", "passkey"]


def test_cells_stop_at_their_length(suite_file):
    plans = [(p.context_tokens, p.table.method, p.backend) for p in load_suite(suite_file, "cpu").plans()]
    assert plans[:4] == [
        (64, "full", "torch"),
        (64, "parallel_comp", "auto"),
        (64, "parallel_comp", "reference"),
        (128, "parallel_comp", "auto"),
    ]
    assert len(plans) == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sets": ["suite.tasks=[qaspr]"]}, 'mine.toml: suite.tasks: unknown task "qaspr"; did you mean "qasper"?'),
        ({"sets": ["suite.tasks=[lcc, longbench/lcc]"]}, "mine.toml: suite.tasks: every task once, got longbench/lcc"),
        ({"sets": ["suite.workloads=[lcc]"]}, 'mine.toml: --set suite.workloads: unknown name "workloads"'),
        ({"sets": ["cell.full.up_to=8"], "methods": ["full"]}, "mine.toml: at least one cell, got none; raise up_to"),
        (
            {"sets": ["suite.prompt_tokens={ful = 9}"]},
            'mine.toml: suite.prompt_tokens: unknown method "ful"; did you mean "full"?',
        ),
        ({"methods": ["ful"]}, '--method: unknown method "ful"; did you mean "full"?'),
    ],
)
def test_accuracy_suite_says_what_is_wrong(suite_file, change, message):
    with pytest.raises(ConfigError) as caught:
        load_suite(suite_file, "cpu", **change)
    assert str(caught.value).startswith(message)
