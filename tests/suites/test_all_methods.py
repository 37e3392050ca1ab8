"""Every method side by side, each with keys and values of as many tokens a kv-head."""

from typing import Self

import pytest
from harness_suite import ACCURACY, SUITE

from pcbench import registry
from pcbench.errors import ConfigError, DataMissing
from pcbench.harness.runner import Options, plan, run
from pcbench.measure.machine.ceilings import Ceilings
from pcbench.methods.full import Full
from pcbench.methods.uncomp.table import default_path
from pcbench.models import model_spec
from pcbench.records import RunFolder
from pcbench.suites import load_suite
from tests.methods.uncomp.test_method import make_table

SUITES = ("prefill", "memory", "throughput", "accuracy_smoke", "needle", "longbench", "ruler", "perplexity")
TOKENS, NEW = 256, 60
ESTIMATE = "pcbench.harness.kinds.methods.estimate"
# a kv-head of the tiny model: keys and values of 64 numbers in float32
HEAD_BYTES = 2 * 64 * 4
# tokens as large as the keys of four sinks, which it keeps a second time, as they were before they were turned
SINKS_AGAIN = 2
# methods without a budget: they keep every token
OTHERS = ("full", "chai", "dual_chunk", "rope_scaling", "star_attention", "ape", "xattention")
# those that need no option
EVERY = [name for name in registry.METHODS if name not in registry.WITHOUT_DEFAULTS]


def planned(name, *sets, **more):
    sets = ["device.cpu.model=random:tiny", "suite.context_tokens=[700]", *sets]
    return plan(Options(suite=name, device="cpu", preset="all", sets=sets, **more)).cells


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_preset_has_a_cell_of_every_method(name, device):
    suite = load_suite(name, device, preset="all")
    assert [cell.method for cell in suite.cells] == EVERY
    assert suite.settings.kv_tokens == [TOKENS]


def test_methods_that_must_be_told_something_are_those_without_a_default():
    found = {name: registry.load(registry.METHODS, "method", name, "here").Config for name in registry.OWN_METHODS}
    required = [n for n, config in found.items() if any(f.is_required() for f in config.model_fields.values())]
    assert required == list(registry.WITHOUT_DEFAULTS)


def test_one_setting_changes_the_size_of_every_method_and_asks_for_several():
    sizes = {}
    for prepared in planned("memory", "suite.kv_tokens=[64,128]"):
        sizes.setdefault(prepared.cell.method, []).append(prepared.cell.method_config)
    assert sizes["full"] == [{}]
    assert [config["tokens"] for config in sizes["snapkv"]] == [64, 128]
    assert [config["evict"]["capacity"] for config in sizes["parallel_comp"]] == [32, 64]
    assert {len(found) for name, found in sizes.items() if name not in OTHERS} == {2}


def test_a_size_that_a_cell_says_itself_stays():
    cells = planned(
        "memory", "suite.kv_tokens=[64,128]", "cell.snapkv.tokens=32", "cell.h2o.share=0.5", "cell.tova.sink=0"
    )
    configs = [(p.cell.method, p.cell.method_config) for p in cells]
    assert [config["tokens"] for method, config in configs if method == "snapkv"] == [32]
    assert [config["share"] for method, config in configs if method == "h2o"] == [0.5]
    assert [(config["tokens"], config["sink"]) for method, config in configs if method == "tova"] == [(64, 0), (128, 0)]


def test_some_methods_can_be_named(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SUITE)
    found = load_suite(str(path), "cpu", sets=["suite.methods=[full,h2o]", "cell.h2o.heavy=0.25"])
    assert [(cell.method, cell.config) for cell in found.cells] == [("full", {}), ("h2o", {"heavy": 0.25})]
    with pytest.raises(ConfigError, match='unknown method "h20"; did you mean "h2o"') as error:
        load_suite(str(path), "cpu", sets=["suite.methods=[full,h20]"])
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"suite\.methods"):
        load_suite(str(path), "cpu", sets=["suite.methods=full"])


def test_the_command_line_chooses_among_them():
    sizes = [
        (p.cell.method, p.cell.method_config.get("tokens"))
        for p in planned("memory", "suite.kv_tokens=[64,128]", methods=("full", "snapkv"))
    ]
    assert sizes == [("full", None), ("snapkv", 64), ("snapkv", 128)]


@pytest.mark.parametrize("tokens", [64, 256, 1000])
def test_every_budget_is_as_large_in_the_mean_as_the_one_that_is_asked_for(tokens, tmp_path, monkeypatch):
    spec = model_spec("smollm2-135m")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    make_table(spec).write(default_path(spec, "queries"))
    for name in EVERY:
        config = registry.load(registry.METHODS, "method", name, "here").Config()
        if name in OTHERS or not hasattr(config, "policy"):
            continue
        config = config.sized(tokens).resolve(spec, "cpu")
        budgets = config.policy(spec, tokens).budgets
        kept = [n for layer in range(spec.layers) for n in budgets(layer, spec, tokens, 4096)]
        assert sum(kept) / len(kept) == pytest.approx(tokens, abs=1), name


@pytest.fixture(scope="module")
def measured(tmp_path_factory, console):
    """A store that grows has room for every new token, one that does not a row for one."""
    sets = [
        "device.cpu.model=random:tiny", "device.cpu.budget_bytes=4000000", "suite.context_tokens=[700]",
        "suite.dtype=float32", "suite.repeats=1", f"workload.passkey.new_tokens={NEW}",
    ]  # fmt: skip
    folder, spec = tmp_path_factory.mktemp("all"), model_spec("random:tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        make_table(spec).write(default_path(spec, "queries"))
        options = Options(suite="throughput", device="cpu", preset="all", sets=sets, out=folder / "run")
        return run(options, console)[1]


def test_every_method_ends_well(measured):
    assert {(r.method, r.status, r.reason) for r in measured if r.status != "ok"} == set()


def test_every_method_holds_as_many_bytes_of_the_prompt_within_a_token_a_head(measured):
    spec = model_spec("random:tiny")
    token = spec.layers * spec.kv_heads * HEAD_BYTES
    found = {r.method: r for r in measured if r.status == "ok"}
    sizes = {name: r.kv_bytes_prompt / token for name, r in found.items() if name not in OTHERS}
    assert {"uncomp", "uncomp_stage"} <= sizes.keys()
    sizes["streaming_llm"] -= SINKS_AGAIN
    assert sizes == {name: pytest.approx(TOKENS, abs=1) for name in sizes}
    rooms = {name: (r.kv_bytes - r.kv_bytes_prompt) / token for name, r in found.items()}
    # sums of attention beside a row for the next token: 4 bytes a key, of uncomp 8 times as many of the longest head's
    one, eight = (HEAD_BYTES + 4 * (TOKENS + 1)) / HEAD_BYTES, (HEAD_BYTES + 8 * 4 * 342) / HEAD_BYTES
    expected = {
        "full": 0,
        "rope_scaling": 0,
        "streaming_llm": 1,
        "recent_only": 1,
        "h2o": one,
        "tova": one,
        "uncomp": eight,
    }
    assert {name: rooms[name] for name in expected} == expected
    assert {rooms[name] for name in rooms if name not in (*expected, "parallel_comp", "uncomp_stage", "chai")} == {NEW}
    assert found["full"].kv_bytes == found["full"].kv_bytes_prompt == (700 - NEW) * token


def test_what_is_no_larger_at_any_length_fits_at_any_length(measured):
    found = {r.method: r for r in measured if r.status == "ok"}
    assert found["full"].longest_context_tokens == 4_000_000 * (700 - NEW) // found["full"].kv_bytes
    assert found["snapkv"].longest_context_tokens is None
    assert any("any length" in warning for warning in found["snapkv"].warnings)


def test_decoding_is_held_against_full_attention_pass_by_pass(measured):
    for record in measured:
        if record.status != "ok":
            continue
        assert record.decode_samples_ms == [record.decode_ms_per_token]
        # of code without ops nothing is held against the reference, so it has no speed-up
        assert (record.decode_speedup_vs_full is None) == (record.backend == "torch")


class Tableless(Full):
    """A method whose table is not here."""

    class Config(Full.Config):
        def resolve(self, spec, device, task="") -> Self:
            raise DataMissing(f"needs: a table of {spec.name}, got none; make one")

        def cost(self, spec, tokens):
            raise AssertionError("resolve() first")


TIMED = SUITE.replace('kind = "prefill"', 'kind = "throughput"')


@pytest.mark.parametrize("text", [ACCURACY, TIMED], ids=["accuracy", "throughput"])
def test_a_method_that_lacks_its_table_says_so_and_the_others_go_on(text, tmp_path, console, monkeypatch):
    monkeypatch.setitem(registry.METHODS, "needs", f"{__name__}:Tableless")
    path = tmp_path / "small.toml"
    path.write_text(text)
    sets = ["suite.methods=[needs,full]", "suite.context_tokens=[300]"]
    options = Options(suite=str(path), device="cpu", sets=sets, limit=1, out=tmp_path / "run")
    monkeypatch.setattr(ESTIMATE + ".glance_at_ceilings", lambda device, dtype: Ceilings(1e9, 1e9))
    planned = plan(options)
    rows = zip(planned.cells, planned.kind.estimates(), strict=True)
    reasons = {prepared.cell.method: row.why_not for prepared, row in rows}
    assert reasons == {"needs": "needs: a table of random:tiny, got none; make one", "full": None}
    _, records = run(options, console)
    ended = [(r.status, r.reason) for r in records if r.method == "needs"]
    assert set(ended) == {("data_missing", "needs: a table of random:tiny, got none; make one")}
    assert {r.status for r in records if r.method == "full"} == {"ok"}
    samples = RunFolder(tmp_path / "run").samples.read()
    assert {s.cell for s in samples} == {r.cell for r in records if r.method == "full" and r.workload != "average"}
