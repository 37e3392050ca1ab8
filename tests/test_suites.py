import tomllib

import pytest

from pcbench.config import bundled
from pcbench.errors import ConfigError, DataMissing, PcbenchError
from pcbench.suites import load_suite, suite_names, suite_summaries

SUITE = """
[suite]
kind = "prefill"
repeats = 5
context_tokens = [64, 128]
[device.cpu]
model = "random:tiny"
dtype = "float32"
[device.gpu]
model = "random:llama-3-8b"
dtype = "bfloat16"
context_tokens = [4096]
[[workload]]
name = "passkey"
task = "passkey"
[[cell]]
method = "full"
backend = "torch"
[[cell]]
method = "parallel_comp"
backend = ["auto", "reference"]
reference_up_to = 64
[cell.config]
keep = 1
[preset.small]
repeats = 2
workload.passkey.new_tokens = 4
cell.parallel_comp.keep = 2
"""


@pytest.fixture
def suite_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SUITE)
    return str(path)


def test_load_suite_merges_the_device_over_the_suite(suite_file):
    cpu, gpu = load_suite(suite_file, "cpu").settings, load_suite(suite_file, "rocm").settings
    assert (cpu.model, cpu.dtype, cpu.context_tokens) == ("random:tiny", "float32", [64, 128])
    assert (gpu.model, gpu.dtype, gpu.context_tokens) == ("random:llama-3-8b", "bfloat16", [4096])


def test_load_suite_merges_preset_then_set_then_model(suite_file):
    suite = load_suite(
        suite_file,
        "cpu",
        preset="small",
        sets=["suite.repeats=7", "cell.parallel_comp.evict.capacity=9", "device.gpu.dtype=float16"],
        model="other",
    )
    assert (suite.settings.repeats, suite.settings.model, suite.settings.dtype) == (7, "other", "float32")
    assert suite.workloads[0].new_tokens == 4
    assert suite.cells[1].config == {"keep": 2, "evict": {"capacity": 9}}


def test_plans_stop_the_reference_at_its_length(suite_file):
    plans = [(p.context_tokens, p.table.method, p.backend) for p in load_suite(suite_file, "cpu").plans()]
    assert plans == [
        (64, "full", "torch"),
        (64, "parallel_comp", "auto"),
        (64, "parallel_comp", "reference"),
        (128, "full", "torch"),
        (128, "parallel_comp", "auto"),
    ]


def test_load_suite_keeps_only_the_named_methods(suite_file):
    assert [c.method for c in load_suite(suite_file, "cpu", methods=["full"]).cells] == ["full"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "smal"}, 'mine.toml: --preset: unknown preset "smal"; did you mean "small"?'),
        ({"sets": ["suite.repeat=1"]}, 'mine.toml: --set suite.repeat: unknown name "repeat"; did you mean "repeats"?'),
        ({"sets": ["suite.context_tokens=[-4]"]}, "mine.toml: suite.context_tokens[0]: input should be greater than 0"),
        ({"sets": ["cell.paralel_comp.keep=1"]}, "mine.toml: --set cell.paralel_comp.keep: unknown name"),
        ({"sets": ["workload.passkey.tsk=1"]}, 'mine.toml: --set workload.passkey.tsk: unknown name "tsk"; did you'),
        ({"sets": ["suit.repeats=1"]}, 'mine.toml: --set suit.repeats: unknown name "suit"; did you mean "suite"?'),
        ({"sets": ["suite=1"]}, "mine.toml: --set suite: suite.KEY, device.cpu.KEY"),
        ({"sets": ["repeats"]}, '--set: key.path=value, got "repeats"'),
        ({"sets": ["workload.passkey.task=pass"]}, 'mine.toml: workload[0].task: unknown task "pass"; did you mean'),
        (
            {"sets": ["workload.passkey.task=mine.jsonl"]},
            "mine.toml: workload[0].task: a generated task where times are taken, whose prompts have the length that "
            'is asked for, got "mine.jsonl"; put it into an accuracy suite',
        ),
        ({"sets": ["workload.passkey.task=longbench/qasper"]}, "mine.toml: workload[0].task: a generated task where"),
        ({"sets": ["cell.parallel_comp.keep.x=1"]}, "mine.toml: --set cell.parallel_comp.keep.x: keep must be a table"),
        ({"sets": ["cell.parallel_comp.backend=[]"]}, "mine.toml: cell[1].backend"),
        ({"sets": ["workload.passkey.context_tokens=[]"]}, "mine.toml: workload[0].context_tokens"),
        ({"sets": ['suite.workloads=["paskey"]']}, 'mine.toml: suite.workloads: unknown workload "paskey"; did you'),
        (
            {
                "sets": ["cell.parallel_comp.backend=reference", "suite.context_tokens=[128]"],
                "methods": ["parallel_comp"],
            },
            "mine.toml: at least one cell, got none; raise up_to or reference_up_to",
        ),
        ({"methods": ["ful"]}, '--method: unknown method "ful"; did you mean "full"?'),
    ],
)
def test_load_suite_says_what_is_wrong_and_what_is_near(suite_file, change, message):
    with pytest.raises(ConfigError) as caught:
        load_suite(suite_file, "cpu", **change)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'method = "full"',
            'method = "fulll"',
            'mine.toml: cell[0].method: unknown method "fulll"; did you mean "full"?',
        ),
        ("repeats = 5", "repeets = 5", 'mine.toml: suite: unknown key "repeets"; did you mean "repeats"?'),
        ("[[workload]]", "[[workloads]]", 'mine.toml: unknown key "workloads"; did you mean "workload"?'),
        ('dtype = "float32"', 'dtipe = "float32"', 'mine.toml: device.cpu: unknown key "dtipe"; did you mean "dtype"?'),
        ("[suite]", "[suite", "mine.toml: a TOML file, got an error"),
        ("repeats = 5", f"repeats = {'9' * 5000}", "mine.toml: a TOML file, got an error: Exceeds the limit"),
        ("repeats = 5", f"repeats = {'[' * 5000}", "mine.toml: a TOML file, got an error: nesting without end"),
        (
            "repeats = 5",
            "repeats = 5\ntimeout_s = inf",
            "mine.toml: suite.timeout_s: input should be a finite number, got",
        ),
        (
            "[suite]",
            "[preset.odd]\ncell = 5\n[suite]",
            "mine.toml: preset.odd.cell: a table, got 5; write [preset.odd.cell]",
        ),
        ("[suite]", "[preset.odd.cell]\nfull = 5\n[suite]", "mine.toml: preset.odd.cell.full: a table, got 5; write"),
    ],
)
def test_load_suite_finds_errors_in_the_file(suite_file, tmp_path, old, new, message):
    (tmp_path / "mine.toml").write_text(SUITE.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_suite(suite_file, "cpu", preset="odd" if "odd" in new else None)
    assert str(caught.value).startswith(message)


def test_load_suite_refuses_what_is_no_plain_file_of_utf_8(tmp_path):
    path = tmp_path / "mine.toml"
    path.mkdir()
    with pytest.raises(ConfigError, match=r"^mine.toml: a plain file, got a folder; name a plain file$"):
        load_suite(str(path), "cpu")
    path = tmp_path / "other.toml"
    path.write_bytes(SUITE.encode("utf-16"))
    with pytest.raises(ConfigError, match=r"^other.toml: text in UTF-8, got UTF-16; save it as UTF-8$"):
        load_suite(str(path), "cpu")


def test_load_suite_takes_records_of_a_file_where_nothing_is_timed(suite_file):
    sets = ["workload.passkey.task=longbench/qasper", "workload.passkey.timed=false"]
    assert load_suite(suite_file, "cpu", sets=sets).workloads[0].task == "longbench/qasper"


def test_load_suite_holds_the_folder_of_official_files(suite_file, tmp_path):
    sets = ["data.dir=/nowhere-else", "suite.repeats=3", f"data.dir={tmp_path}"]
    suite = load_suite(suite_file, "cpu", sets=sets)
    assert (suite.data_dir, suite.settings.repeats) == (str(tmp_path), 3)
    assert load_suite(suite_file, "cpu").data_dir is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data.dir=/nowhere", "mine.toml: --set data.dir: a folder, got '/nowhere'; name one that is there"),
        ("data.dir", "mine.toml: --set data.dir: a folder, got ''"),
        ("data.folder=x", 'mine.toml: --set data.folder: unknown name "data.folder"; did you mean "data.dir"?'),
    ],
)
def test_load_suite_says_what_is_wrong_with_the_folder(suite_file, text, message):
    with pytest.raises(PcbenchError) as caught:
        load_suite(suite_file, "cpu", sets=[text])
    assert str(caught.value).startswith(message)


def test_a_suite_of_kernels_refuses_a_folder_of_official_files(tmp_path):
    with pytest.raises(ConfigError, match="kernels read no files"):
        load_suite("kernels", "cpu", sets=[f"data.dir={tmp_path}"])


def test_load_suite_names_a_missing_file_and_a_near_suite():
    with pytest.raises(DataMissing, match="there is no such file"):
        load_suite("nowhere.toml", "cpu")
    with pytest.raises(PcbenchError, match='did you mean "prefill"'):
        load_suite("prefil", "cpu")


@pytest.mark.parametrize("name", suite_names())
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_bundled_suites_load_with_all_presets(name, device):
    presets = tomllib.loads((bundled("suites") / f"{name}.toml").read_text(encoding="utf-8")).get("preset", {})
    for preset in (None, *presets):
        assert list(load_suite(name, device, preset=preset).plans())
    assert suite_summaries()[name]


def test_a_devices_table_changes_cells_of_the_file_before_preset_and_set(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SUITE.replace("[4096]", "[4096]\ncell.parallel_comp.keep = 5"))

    def configs(device, **changes):
        found = load_suite(str(path), device, **changes)
        return [cell.config for cell in found.cells if cell.method == "parallel_comp"]

    assert (configs("cpu"), configs("cuda")) == ([{"keep": 1}], [{"keep": 5}])
    assert configs("cuda", preset="small") == [{"keep": 2}]
    assert configs("cuda", sets=["cell.parallel_comp.keep=7"]) == [{"keep": 7}]
    # cells that settings choose are not the file's
    assert configs("cuda", sets=["suite.methods=[full,parallel_comp]"]) == [{}]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cell.paralel_comp.keep = 1", 'mine.toml: device.gpu: unknown name "paralel_comp"; did you mean "parallel_co'),
        ("cell.parallel_comp = 1", "mine.toml: device.gpu.cell.parallel_comp: input should be a valid dictionary"),
        ("cel.parallel_comp.keep = 1", 'mine.toml: device.gpu: unknown key "cel"; did you mean "cell"?'),
    ],
)
def test_load_suite_finds_errors_in_a_devices_cells(tmp_path, line, message):
    path = tmp_path / "mine.toml"
    path.write_text(SUITE.replace("[4096]", f"[4096]\n{line}"))
    with pytest.raises(ConfigError) as caught:
        load_suite(str(path), "cuda")
    assert str(caught.value).startswith(message)
