import pytest

from pcbench.errors import ConfigError
from pcbench.suites import load_suite

SUITE = """
[suite]
kind = "kernel"
rounds = 20
[device.cpu]
dtype = "float32"
grid = "small"
[device.gpu]
dtype = "bfloat16"
grid = "large"
[[kernel]]
op = "merge_states"
[kernel.grid.small]
shapes = [{ parts = [2, 3], heads = 1, rows = 4, dim = [8, 16] }, { parts = 1, heads = 1, rows = 1, dim = 1 }]
baselines = ["torch-softmax"]
[kernel.grid.large]
shapes = [{ parts = 8, heads = 32, rows = 4096, dim = 128 }]
[[kernel]]
op = "chunk_topk"
[kernel.grid.small]
shapes = [{ chunks = 4, keep = 2 }]
[preset.quick]
rounds = 5
kernel.merge_states.dim = 4
"""


@pytest.fixture
def suite_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SUITE)
    return str(path)


def shapes(suite, op):
    return [plan.shape for plan in suite.plans() if plan.op == op]


def test_the_device_chooses_dtype_and_grid(suite_file):
    cpu, gpu = load_suite(suite_file, "cpu"), load_suite(suite_file, "cuda")
    assert (cpu.settings.dtype, gpu.settings.dtype) == ("float32", "bfloat16")
    assert {plan.op for plan in cpu.plans()} == {"merge_states", "chunk_topk"}
    assert shapes(gpu, "merge_states") == [{"parts": 8, "heads": 32, "rows": 4096, "dim": 128}]
    assert shapes(gpu, "chunk_topk") == []


def test_a_list_in_a_shape_stands_for_each_of_its_values(suite_file):
    found = [(s["parts"], s["dim"]) for s in shapes(load_suite(suite_file, "cpu"), "merge_states")]
    assert found == [(2, 8), (2, 16), (3, 8), (3, 16), (1, 1)]


def test_a_shape_may_have_a_dtype_of_its_own(suite_file):
    sets = ["kernel.chunk_topk.shapes=[{chunks = 9, keep = [1, 2], dtype = ['float32', 'bfloat16']}]"]
    plans = [p for p in load_suite(suite_file, "cpu", sets=sets).plans() if p.op == "chunk_topk"]
    assert [(p.shape, p.dtype) for p in plans] == [
        ({"chunks": 9, "keep": keep}, dtype) for keep in (1, 2) for dtype in ("float32", "bfloat16")
    ]
    assert {p.dtype for p in load_suite(suite_file, "cpu").plans()} == {"float32"}


def test_preset_then_set_change_settings_grids_and_numbers(suite_file):
    sets = [
        "kernel.merge_states.rows=[7]",
        "suite.rounds=9",
        "device.gpu.dtype=float16",
        "kernel.chunk_topk.baselines=[]",
    ]
    suite = load_suite(suite_file, "cpu", preset="quick", sets=sets)
    assert (suite.settings.rounds, suite.settings.dtype) == (9, "float32")
    assert [(s["rows"], s["dim"]) for s in shapes(suite, "merge_states")] == [(7, 4)] * 3
    one = load_suite(suite_file, "cpu", sets=["kernel.chunk_topk.shapes=[{chunks = 9, keep = 1}]"])
    assert shapes(one, "chunk_topk") == [{"chunks": 9, "keep": 1}]


def test_methods_keep_only_the_named_ops(suite_file):
    assert {p.op for p in load_suite(suite_file, "cpu", methods=["chunk_topk"]).plans()} == {"chunk_topk"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"sets": ["kernel.merge_state.rows=1"]},
            'mine.toml: --set kernel.merge_state.rows: unknown name "merge_state"',
        ),
        ({"sets": ["suite.round=1"]}, 'mine.toml: --set suite.round: unknown name "round"; did you mean "rounds"?'),
        ({"sets": ["suite.grid=smal"]}, 'mine.toml: suite.grid: unknown grid "smal"; did you mean "small"?'),
        ({"sets": ["suite.rounds=0"]}, "mine.toml: suite.rounds: input should be greater than 0, got 0"),
        (
            {"sets": ["kernels.merge_states.rows=1"]},
            'mine.toml: --set kernels.merge_states.rows: unknown name "kernels"',
        ),
        ({"sets": ["kernel.merge_states=1"]}, "mine.toml: --set kernel.merge_states: suite.KEY, device.cpu.KEY or"),
        ({"sets": ["kernel.merge_states.shapes=3"]}, "mine.toml: kernel[0].grid.small.shapes: input should be a valid"),
        (
            {"sets": ["kernel.chunk_topk.dtype=float8"]},
            "mine.toml: kernel[1].grid.small.shapes[0].dtype: float32, bfloat16, float16, got 'float8'; name one of",
        ),
        ({"sets": ["rounds"]}, '--set: key.path=value, got "rounds"'),
        ({"preset": "quik"}, 'mine.toml: --preset: unknown preset "quik"; did you mean "quick"?'),
        (
            {"methods": ["chunk_top"]},
            'mine.toml: --method: unknown op of the suite "chunk_top"; did you mean "chunk_topk"',
        ),
        ({"model": "smollm2-135m"}, "mine.toml: no --model, got smollm2-135m; its kernels run without one"),
    ],
)
def test_load_suite_says_what_is_wrong_and_what_is_near(suite_file, change, message):
    with pytest.raises(ConfigError) as caught:
        load_suite(suite_file, "cpu", **change)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'op = "chunk_topk"',
            'op = "chunk_top"',
            'mine.toml: kernel[1].op: unknown op "chunk_top"; did you mean "chunk_topk"?',
        ),
        ('op = "chunk_topk"', 'op = "merge_states"', "mine.toml: kernel[1].op: every op once, got merge_states twice"),
        ("[preset.quick]", "[presets.quick]", 'mine.toml: unknown key "presets"; did you mean "preset"?'),
        (
            "baselines = ",
            "baseline = ",
            'mine.toml: kernel[0].grid.small: unknown key "baseline"; did you mean "baselines"?',
        ),
        ('dtype = "float32"', 'dtipe = "float32"', 'mine.toml: device.cpu: unknown key "dtipe"; did you mean "dtype"?'),
        ('dtype = "float32"', "", "mine.toml: suite.dtype: a value is required, got none; add it"),
        (
            '[suite]\nkind = "kernel"',
            '[suites]\nkind = "kernel"',
            "mine.toml: suite: a table [suite], got none; add it",
        ),
    ],
)
def test_load_suite_finds_errors_in_the_file(suite_file, tmp_path, old, new, message):
    (tmp_path / "mine.toml").write_text(SUITE.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_suite(suite_file, "cpu")
    assert str(caught.value).startswith(message)
