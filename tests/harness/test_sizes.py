from contextlib import suppress

import pytest

from pcbench.errors import ConfigError, DataMissing, PcbenchError
from pcbench.harness.kinds import machine
from pcbench.harness.kinds.methods import group, sizes
from pcbench.harness.kinds.methods.session import ModelSession
from pcbench.harness.runner import plan
from pcbench.suites import suite_names

GIB = 2**30


@pytest.fixture
def memory(monkeypatch):
    """Gives the machine so many bytes."""
    return lambda size: monkeypatch.setattr(machine, "memory_bytes", lambda: size)


def test_a_context_beyond_the_machine_is_refused_with_the_longest_that_fits(options, memory):
    memory(64 << 20)
    weights = 4 * plan(options(methods=["full"])).kind.spec.parameters
    # two layers of two kv-heads of 64 numbers of 4 bytes, keys and values, and the prompt's entries
    fits = ((64 << 20) - weights) // (2 * 2 * 2 * 64 * 4 + 2 * 8 + 12)
    chosen = {"methods": ["full"], "sets": [f"suite.context_tokens=[{fits}]"]}
    assert plan(options(**chosen)).cells
    chosen["sets"] = [f"suite.context_tokens=[{fits + 1}]"]
    with pytest.raises(
        ConfigError, match=f"Full attention on passkey, {fits + 1:,} tokens: at most {fits}, .*, got {fits + 1}; "
    ):
        plan(options(**chosen))


def test_weights_that_alone_are_too_large_are_refused(options, memory):
    weights = 4 * plan(options()).kind.spec.parameters
    memory(weights - 1)
    with pytest.raises(ConfigError, match=r"suite.model: weights that fit in the .*, got .* GiB of random:tiny in fl"):
        plan(options())


@pytest.mark.parametrize("config", [{}, {"chunk_tokens": 1}, {"micro_batch": 2**31 - 1}])
def test_contexts_of_millions_of_tokens_are_refused_at_once(options, memory, config):
    memory(2 * GIB)
    sets = ["suite.context_tokens=[100000000]", *(f"cell.parallel_comp.{key}={x}" for key, x in config.items())]
    with pytest.raises(ConfigError, match=r"ParallelComp on .*: at most \d+, whose prompt and keys .* got 100000000;"):
        plan(options(methods=["parallel_comp"], sets=sets))


def test_keys_of_a_gpu_are_not_looked_for_in_this_machine(options, memory):
    planned = plan(options(methods=["full"], sets=["suite.context_tokens=[100000]"]))
    memory(100_000 * (2 * 8 + 12))
    with pytest.raises(ConfigError):
        sizes.check_prompts("here", planned.cells, planned.kind.spec)
    on_gpu = [type(p)(**vars(p) | {"cell": type(p.cell)(**vars(p.cell) | {"device": "cuda"})}) for p in planned.cells]
    sizes.check_prompts("here", on_gpu[:1], planned.kind.spec)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ("suite.context_tokens=[1000000000]", "less than or equal to 100000000, got 1000000000"),
        ("suite.repeats=1000000000", "less than or equal to 1000000, got 1000000000"),
        ("suite.repeats_up_to=1000000000", "less than or equal to 1000000, got 1000000000"),
        ("suite.warmup_up_to=1000000000", "less than or equal to 1000000, got 1000000000"),
        ("workload.prose.prompts=1000000000", "less than or equal to 1000000, got 1000000000"),
        ("workload.prose.new_tokens=4294967296", "less than or equal to 2147483647, got"),
        ("suite.timeout_s=inf", "should be a finite number, got inf"),
        ("suite.timeout_s=nan", "should be a finite number, got nan"),
        ("suite.timeout_s=1e9", "less than or equal to 2000000, got 1000000000.0"),
        ("suite.seed=9223372036854775808", "less than or equal to 9223372036854775807, got"),
        ("suite.budget_bytes=9223372036854775808", "less than or equal to 9223372036854775807, got"),
        *(
            (f"cell.parallel_comp.{key}=2147483648", "less than or equal to 2147483647, got 2147483648")
            for key in ("chunk_tokens", "keep", "query_tail", "evict.capacity")
        ),
        ("cell.parallel_comp.evict={capacity=9, pool=4611686018427387905}", "less than or equal to 2147483647, got"),
        ("cell.parallel_comp.evict={capacity=9, rows=4611686018427387905}", "less than or equal to 2147483647, got"),
        ("cell.parallel_comp.micro_batch=2147483648", "got 2147483648"),
        ("suite.kind=kernel", "suite.kind: the kind of the suite's file, prefill, got 'kernel'; "),
        ("suite.kind=memory", "suite.kind: the kind of the suite's file, prefill, got 'memory'; "),
        ("device.cpu.kind=accuracy", "device.cpu.kind: the kind of the suite's file, prefill, got 'accuracy'; "),
        ("cell.parallel_comp.config=3", "valid dictionary, got 3; "),
    ],
)
def test_numbers_that_nothing_can_count_are_refused_with_the_largest(options, sets, message):
    with pytest.raises(PcbenchError, match=message) as found:
        plan(options(sets=[sets]))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ("suite.rounds=1000000000", "less than or equal to 1000000, got 1000000000"),
        ("suite.seed=9223372036854775808", "less than or equal to 9223372036854775807, got"),
        ("suite.timeout_s=inf", "should be a finite number, got inf"),
        ("suite.reference_up_to_gflop=inf", "should be a finite number, got inf"),
        ("kernel.select_tokens.pool=4611686018427387905", "less than or equal to 2147483647, got"),
        ("kernel.select_tokens.keys=2147483648", "less than or equal to 2147483647, got 2147483648"),
        ("kernel.select_tokens.keys=2147483647", "at most the 8 GiB of this machine .*, got .* GiB; make it smaller"),
        ("suite.kind=prefill", "suite.kind: the kind of the suite's file, kernel, got 'prefill'; "),
    ],
)
def test_kernel_suites_are_bounded_too(options, memory, sets, message):
    memory(8 * GIB)
    with pytest.raises(PcbenchError, match=message):
        plan(options(suite="kernels", methods=["select_tokens"], sets=[sets]))


def test_a_kind_that_is_the_files_own_may_be_said(options):
    assert plan(options(sets=["suite.kind=prefill"])).cells


def test_a_config_is_set_as_a_whole_and_key_by_key(options):
    sets = ["cell.parallel_comp.config={keep=2, chunk_tokens=64}", "cell.parallel_comp.config.tie=late"]
    cells = plan(options(methods=["parallel_comp"], sets=sets)).cells
    assert {(p.config.keep, p.config.chunk_tokens, p.config.tie) for p in cells} == {(2, 64, "late")}
    with pytest.raises(ConfigError, match="config must be a table, got 3; "):
        plan(options(sets=["cell.parallel_comp.config=3", "cell.parallel_comp.keep=1"]))


def test_every_suite_fits_in_this_machine(options):
    """What runs today is not refused."""
    for name in suite_names():
        # its files or its model may not be here
        with suppress(DataMissing):
            assert plan(options(suite=name)).cells


@pytest.fixture
def measured(options):
    """The lanes of a group on the tiny model."""
    chosen = ["suite.context_tokens=[300]", "suite.workloads=['passkey']"]

    def lanes(*sets, **changes):
        planned = plan(options(**changes, sets=[*chosen, *sets]))
        runner = ModelSession(planned.kind.spec, {}).runner(planned.cells[0])
        return group.Group(planned.cells, runner, lambda text, *cells: None).measure()

    return lanes


def test_prompts_that_the_stop_rule_may_spare_are_built_when_they_are_needed(measured, monkeypatch):
    built, real, clocked = [], group.build_example, group.clocked

    def build(prepared, tokenizer, index):
        built.append(index)
        return real(prepared, tokenizer, index)

    def steady(function, device):
        result, elapsed = clocked(function, device)
        return result, type(elapsed)(10.0)

    monkeypatch.setattr(group, "build_example", build)
    monkeypatch.setattr(group, "clocked", steady)
    stop = ["suite.repeats=3", "suite.repeats_up_to=1000000", "suite.relative_error=0.02"]
    (lane,) = measured(*stop, methods=["full"])
    assert (lane.status, lane.samples_ms) == ("ok", [10.0] * 5)
    assert built == [0, 1, 2, 3, 4]
    # the same prompts in the same order as without the rule
    (again,) = measured("suite.repeats=5", methods=["full"])
    assert [s.prompt_sha256 for s in again.samples[:5]] == [s.prompt_sha256 for s in lane.samples[:5]]


def test_a_prompt_that_cannot_be_built_ends_the_group(measured, monkeypatch):
    real = group.build_example

    def build(prepared, tokenizer, index):
        if index == 2:
            raise ConfigError("here: a prompt, got none; ask another")
        return real(prepared, tokenizer, index)

    monkeypatch.setattr(group, "build_example", build)
    for repeats in (["suite.repeats=3"], ["suite.repeats=2", "suite.repeats_up_to=9", "suite.relative_error=1e-9"]):
        lanes = measured(*repeats)
        assert {(x.status, x.reason) for x in lanes} == {("unsupported", "here: a prompt, got none; ask another")}
