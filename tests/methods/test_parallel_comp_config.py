import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import make_runner

from pcbench.config import validate
from pcbench.errors import ConfigError
from pcbench.harness.kinds.methods.cells import MethodCells, Rules
from pcbench.methods.parallel_comp import Config, Eviction, Rule
from pcbench.methods.parallel_comp.presets import preset_for
from pcbench.methods.parallel_comp.switches import switch_rows, switches
from pcbench.reference.chunks import split_chunks
from pcbench.suites import load_suite
from pcbench.types import causal_flops

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "reports/examples/prefill_xeon2c_202611/records.jsonl"
RETRIEVAL = ("passkey", "number_string", "kv_retrieval", "passage_retrieval_en")


def spec(name="llama", trained_tokens=4096):
    return replace(make_runner().spec, name=name, layers=32, trained_tokens=trained_tokens)


def resolved(task="", model="llama", trained_tokens=4096, **config):
    return Config(**config).resolve(spec(model, trained_tokens), "cpu", task)


def test_the_committed_examples_cells_keep_their_keys():
    records = [json.loads(line) for line in EXAMPLE.read_text().splitlines()]
    # prose was scored at every length, and float32 was the dtype on every CPU
    sets = ["workload.prose.context_tokens=[2048, 4096, 8192]", "suite.dtype=float32"]
    suite = load_suite("prefill", "cpu", sets=sets)
    made = {p.cell.key for p in MethodCells(suite, make_runner(trained_tokens=8192).spec, "cpu", None, Rules()).all()}
    assert {r["cell"] for r in records} == made


def test_a_key_that_came_later_is_dumped_only_where_it_is_not_the_default():
    old = {"chunk_tokens": None, "keep": 3, "micro_batch": 1, "evict": None, "calibration": []}
    assert resolved().model_dump(mode="json") == old
    assert resolved(tie="late", rank_by="query_nll").model_dump(mode="json") == old | {"tie": "late"}
    evict = resolved(evict=dict(capacity=5, when="query")).model_dump(mode="json")["evict"]
    assert evict == {"capacity": 5, "rows": 8, "pool": 7, "when": "query"}
    (rule,) = resolved(calibration=[dict(zone="all", layers=[0, 1], fill=True)]).model_dump(mode="json")["calibration"]
    assert rule == {
        "zone": "all", "layers": [0, 1], "threshold": 0.1, "rows": 1, "scope": "global", "width": 100, "fill": True,
    }  # fmt: skip


@pytest.mark.parametrize("table", [Config, Eviction, Rule])
def test_later_keys_exist_and_have_defaults(table):
    assert table.later <= set(table.model_fields)
    assert not any(table.model_fields[name].is_required() for name in table.later)


def test_resolving_twice_changes_nothing():
    once = resolved("longbench/samsum", "llama-2-7b", preset="official-longbench", evict=dict(capacity=9))
    assert once.resolve(spec("llama-2-7b"), "cpu", "longbench/narrativeqa") == once


@pytest.mark.parametrize("preset", ["paper", "official-longbench", "official-infinitebench"])
@pytest.mark.parametrize("task", ["", "longbench/narrativeqa", "infinitebench/math_find", *RETRIEVAL])
def test_presets_keep_one_chunk_on_retrieval_tasks(preset, task):
    config = resolved(f"infinitebench/{task}" if task == "passkey" else task, "llama-2-7b-chat", preset=preset)
    assert config.keep == (1 if task in RETRIEVAL else 3)


SUITE = """
[suite]
kind = "prefill"
model = "random:tiny"
dtype = "float32"
context_tokens = [64]
[[workload]]
name = "key"
task = "passkey"
[[workload]]
name = "sum"
task = "math_calc"
[[cell]]
method = "parallel_comp"
[cell.config]
preset = "paper"
chunk_tokens = 32
"""


def test_a_suites_cells_resolve_presets_by_their_task(tmp_path):
    (tmp_path / "suite.toml").write_text(SUITE)
    cells = MethodCells(load_suite(str(tmp_path / "suite.toml"), "cpu"), spec(), "cpu", None, Rules()).all()
    assert [p.config.keep for p in cells] == [1, 3]
    assert [p.cell.method_config["keep"] for p in cells] == [1, 3]
    assert {p.cell.method_config["preset"] for p in cells} == {"paper"}


@pytest.mark.parametrize("key", ["keep", "chunk_tokens", "tie", "split"])
def test_a_given_key_is_stronger_than_the_preset(key):
    given = {"keep": 7, "chunk_tokens": 1000, "tie": "early", "split": "tokens"}[key]
    config = resolved("passkey", "llama-2-7b", preset="official-longbench", **{key: given})
    assert getattr(config, key) == given
    assert getattr(resolved("passkey", "llama-2-7b", preset="official-longbench"), key) != given


def test_the_papers_preset_takes_6k_chunks_of_models_trained_for_more():
    assert (resolved(preset="paper").chunk_tokens, resolved(preset="paper").keep) == (None, 3)
    long = resolved(trained_tokens=131072, preset="paper")
    assert (long.chunk_tokens, long.keep) == (6000, 4)


# tasks of shorter chunks: repobench-p and triviaqa, samsum and passage_retrieval_en
@pytest.mark.parametrize(
    ("model", "chunk", "code", "dialogue"),
    [
        ("meta-llama/Llama-2-7b-chat-hf", 3600, 2500, 2800),
        ("random:llama-2-7b", 3600, 2500, 2800),
        ("meta-llama/Meta-Llama-3-8B-Instruct", 7600, 2500, 2800),
        ("somebody/llama3-8b", 7600, 6200, 7000),
        ("meta-llama/Llama-3.1-8B-Instruct", 6000, 6000, 6000),
        ("Qwen/Qwen2.5-7B-Instruct", 6000, 6000, 6000),
        ("mistralai/Mistral-7B", 3950, 2500, 2800),
    ],
)
def test_official_chunk_sizes_are_those_of_model_and_task(model, chunk, code, dialogue):
    def size(task, preset="official-longbench"):
        return resolved(f"longbench/{task}", model, preset=preset).chunk_tokens

    assert {size(t) for t in ("qasper", "lcc", "passage_count")} == {chunk}
    assert {size(t) for t in ("repobench-p", "triviaqa")} == {code}
    assert {size(t) for t in ("samsum", "passage_retrieval_en")} == {dialogue}
    assert size("kv_retrieval", "official-infinitebench") == chunk


def test_an_official_preset_needs_a_model_of_the_runner_or_a_chunk_size():
    with pytest.raises(
        ConfigError, match="a model of the released runner, got smollm2-135m; set chunk_tokens or use pre"
    ):
        resolved(model="smollm2-135m", preset="official-longbench")
    assert resolved(model="smollm2-135m", preset="official-longbench", chunk_tokens=99).chunk_tokens == 99


def test_official_presets_switch_eviction_and_rules_to_the_released_ways():
    config = resolved(
        model="llama-2",
        preset="official-longbench",
        evict=dict(capacity=9),
        calibration=[dict(zone="all", layers=[0, 1])],
    )
    assert (config.evict.group, config.evict.pool_first) == ("query_head", False)
    assert (config.calibration[0].fill, config.calibration[0].query_keys) == (True, True)
    given = resolved(
        model="llama-2", preset="official-longbench", evict=dict(capacity=9, group="kv_head"),
        calibration=[dict(zone="all", layers=[0, 1], fill=False)],
    )  # fmt: skip
    assert (given.evict.group, given.calibration[0].fill) == ("kv_head", False)
    assert resolved(model="llama-2", preset="official-longbench").evict is None


def test_the_record_of_a_preset_shows_its_numbers():
    shown = resolved("longbench/samsum", "llama-2-7b", preset="official-longbench").model_dump(mode="json")
    assert shown == {
        "chunk_tokens": 2800, "keep": 3, "micro_batch": 1, "evict": None, "calibration": [],
        "preset": "official-longbench", "split": "chars", "score_bos": True, "tie": "late",
    }  # fmt: skip


def test_every_value_of_the_presets_is_one_the_config_takes():
    for preset in ("paper", "official-longbench", "official-infinitebench"):
        for model in ("llama-2", "llama3", "llama-3.1", "qwen2", "mistral"):
            values = preset_for(preset, spec(model, 131072), "longbench/samsum")
            validate(Config, values.config, "preset")
            validate(Eviction, {"capacity": 1} | values.evict, "preset")
            validate(Rule, {"zone": "all", "layers": [0, 1]} | values.rule, "preset")


@pytest.mark.parametrize("sizes", [{}, {"capacity": 3, "share": 0.5}])
def test_eviction_has_a_capacity_or_a_share(sizes):
    with pytest.raises(ConfigError, match="capacity or share must be given, and not both"):
        validate(Config, {"evict": sizes}, "here")


@pytest.mark.parametrize("switch", switches(), ids=lambda s: s.option)
def test_a_switch_has_keys_that_the_config_takes_or_a_reason(switch):
    assert bool(switch.why_not) != (switch.config is not None or bool(switch.elsewhere))
    if switch.config is None:
        return
    given = validate(Config, switch.config, switch.option)
    given.resolve(spec("llama-2"), "cpu")
    for key, value in switch.config.items():
        taken = getattr(given, key)
        if key == "calibration":
            assert [rule.explicit() for rule in taken] == value
        elif key == "evict":
            assert taken.explicit() == value
        else:
            assert taken == value


# what the released runner does, read in its own code and not in our table: option → the resolved config
DONE_THERE = {
    "--topk_windows -3": dict(keep=3, prefer="lowest", tie="late"),
    "--topk_windows 3": dict(keep=3, prefer="highest", tie="late"),
    "--query_rank true": dict(rank_by="query_nll", score_bos=True, query_tail=None),
    "--query_rank false": dict(rank_by="window_nll", score_bos=True),
    "--parallel_pattern …shuffle": dict(rank_by="random"),
    "--query_recent_tokens 0": dict(query_tail=None),
    "--query_recent_tokens 16": dict(query_tail=16),
    "--kv_cache_eviction true --capacity 512": dict(
        evict=dict(capacity=512, rows=8, pool=7, group="query_head", when="chunk", decode=False)
    ),
    "--stage_eviction true": dict(evict=dict(capacity=512, rows=8, pool=7, group="query_head", when="query")),
    "--kv_cache_dynamic true": dict(evict=dict(capacity=512, rows=8, pool=7, group="query_head", decode=True)),
    "--calibration_stage prefill_2_calibration_head_recent_0_1": dict(
        calibration=[dict(zone="recent", threshold=0.1, rows=1, width=99, scope="global", starts_now=True)]
    ),
    "--calibration_stage prefill_2_calibration_head_sink_0_1": dict(
        calibration=[dict(zone="sink", width=100, scope="global", starts_now=True, shared=False)]
    ),
    "--calibration_stage prefill_2_head_all_0_1": dict(
        calibration=[dict(zone="all", scope="global", starts_now=False)]
    ),
    "--calibration_stage prefill_1_head_all_0_1": dict(calibration=[dict(zone="all", scope="chunk", starts_now=False)]),
    "--calibration_stage prefill_2_calibration_all_0_1": dict(
        calibration=[dict(zone="all", scope="global", shared=True)]
    ),
}


@pytest.mark.parametrize("option", DONE_THERE)
def test_a_switch_does_what_the_released_runner_does(option):
    config = validate(Config, switch_config(option), option).resolve(spec("llama-2"), "cpu")
    for key, expected in DONE_THERE[option].items():
        taken = getattr(config, key)
        if isinstance(expected, list):
            ((taken,), (expected,)) = taken, expected
        if isinstance(expected, dict):
            taken, expected = {k: getattr(taken, k) for k in expected}, expected
        assert taken == expected


def switch_config(option):
    (switch,) = (switch for switch in switches() if switch.option == option)
    return switch.config


# the options of section "CLI flags and switches" of the specification
OPTIONS = {
    *("--dataset", "--data_name", "--model", "--model_class", "--cache-dir", "--random-seed", "--n-windows"),
    *("--parallel_pattern", "--kv_cache_eviction", "--capacity", "--recent_token", "--kv_cache_dynamic"),
    *("--stage_eviction", "--topk_windows", "--query_rank", "--query_recent_tokens", "--reduce_factor"),
    *("--special_token", "--calibration_mode", "--calibration_stage", "THRES", "RECENT_TOKENS"),
    *("FLASH_ATTENTION_DETERMINISTIC", "PYTORCH_CUDA_ALLOC_CONF", "pooling", "kernel_size", "zone"),
    *("--gpu_nums", "--reduce_length"),
}
PATTERNS = {
    *("parallel_comp", "parallel_comp_batches", "parallel_comp_label_N", "default"),
    *("stream", "shuffle", "ppl", "test"),
}


def test_every_option_of_the_released_runner_is_in_the_table():
    words = {word.split("=")[0] for option in switch_rows() for word in option.split()}
    assert words >= OPTIONS
    patterns = {option.split()[1].removeprefix("…") for option in switch_rows() if option.startswith("--parallel_p")}
    assert patterns >= PATTERNS


def test_every_key_of_the_config_is_in_the_table_or_ours():
    used = {key for switch in switches() for key in switch.config or {}}
    assert set(Config.model_fields) - used == {"ranks", "attention", "kv_dtype"}


@pytest.mark.parametrize("tokens", [0, 1, 63, 64, 65, 1000])
def test_cost_is_that_of_the_chunks(tokens):
    cost = resolved(chunk_tokens=64, keep=2).cost(spec(), tokens)
    spans = split_chunks(tokens, 64)
    assert cost.flops == pytest.approx(sum(causal_flops(spec(), end - start) for start, end in spans))
    assert cost.kv_tokens == (min(2, len(spans)) + 1) * max(end - start for start, end in spans)
