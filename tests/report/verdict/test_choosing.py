"""Which method to use: what fits, what answers best, and what the records cannot tell."""

import pytest
from report.made_choices import GIB, GPU, SPEC, TOKEN, peak, scored
from report.made_runs import record, stock, write_run

from pcbench.errors import ConfigError
from pcbench.report.reading.results import Results
from pcbench.report.reading.runs import read_runs
from pcbench.report.verdict.choosing.asked import Asked, amount, read_memory
from pcbench.report.verdict.choosing.candidates import settings
from pcbench.report.verdict.choosing.commands import accuracy_commands, memory_commands
from pcbench.report.verdict.choosing.words import answer, reading, remarks, speed_text

HERE = GPU["context_tokens"]


@pytest.fixture
def choose(tmp_path):
    """The settings of some records, which need not be of one run."""

    def make(records, memory=None, context=HERE, model=None, spec=SPEC):
        run = write_run(tmp_path / "run", records, model=spec)
        limit = None if memory is None else read_memory(memory)
        return settings(Results(read_runs([run])), Asked(limit, context, model))

    return make


def by_method(setting):
    return {c.record.method: c for c in setting.candidates}


def test_only_memory_measured_at_the_length_says_what_fits(choose):
    between = peak("h2o", 23.0, reserved_bytes=25 * GIB)
    scattered = peak("knorm", 23.0, peak_samples_bytes=[23 * GIB, 23 * GIB, 25 * GIB], reserved_bytes=None)
    shorter = peak("tova", 16.0, context_tokens=8192)
    longer = peak("keydiff", 16.0, context_tokens=65536)
    records = [peak("full", 24.5), peak("snapkv", 20.0), between, scattered, shorter, longer, scored("pyramidkv", 30)]
    (setting,) = choose(records, "24GiB")
    assert {c.record.method: c.need.words(24 * GIB) for c in setting.candidates} == {
        "full": "does not fit: 24.5 GiB",
        "snapkv": "fits: 20.0 GiB",
        "h2o": "cannot tell: passes took 23.0 GiB to 25.0 GiB",
        "knorm": "cannot tell: passes took 23.0 GiB to 25.0 GiB",
        "tova": "cannot tell: measured up to 8,192 tokens",
        "keydiff": "cannot tell: measured from 65,536 tokens on",
        "pyramidkv": "cannot tell: not measured",
    }
    assert answer(setting).startswith(
        "1 of 7 methods fits in 24.0 GiB at 32,768 tokens: SnapKV. 1 does not fit. For 5 the records cannot tell. "
    )


def test_what_decoding_takes_has_to_fit_too(choose):
    (setting,) = choose([peak("full", 20.0), peak("snapkv", 20.0, phase_bytes={"decode": 30 * GIB})], "24GiB")
    assert by_method(setting)["snapkv"].need.fit(24 * GIB) == "does not fit"


def test_arithmetic_rules_out_and_never_in(choose):
    """Full attention of 131,072 tokens stores 16 GiB beside 15 GiB of weights, whatever was measured."""
    records = [peak("full", 20.0), peak("snapkv", 16.0)]
    said = {
        limit: {c.record.method: c.need.words(limit * GIB) for c in choose(records, None, 131072)[0].candidates}
        for limit in (14, 24, 80)
    }
    bound = 15 * GIB + (131072 - 12) * TOKEN
    assert said[24]["full"] == f"does not fit: weights, keys and values alone take {amount(bound)}"
    assert said[24]["snapkv"] == said[80]["full"] == "cannot tell: measured up to 32,768 tokens"
    assert said[14]["snapkv"] == "does not fit: weights alone take 15.0 GiB"
    # a model that does not hold every token
    windows = [peak("full", 20.0, kv_bytes=4096 * TOKEN), peak("snapkv", 16.0)]
    assert choose(windows, None, 131072)[0].candidates[0].need.low == 15 * GIB


def test_on_a_cpu_the_weights_are_added(choose):
    cpu = {"device": "cpu", "gpu": None, "reserved_bytes": None, "dtype": "float32"}
    records = [peak("full", 2.0, **cpu), peak("snapkv", 1.0, **cpu)]
    (setting,) = choose(records, "4GiB", spec=SPEC | {"parameters": GIB // 2})
    assert {c.record.method: c.need.words(4 * GIB) for c in setting.candidates} == {
        "full": "fits: 4.0 GiB",
        "snapkv": "fits: 3.0 GiB",
    }
    for unknown in ({}, {"parameters": "many"}, {"parameters": True}, {"parameters": 10**18}):
        (setting,) = choose(records, "4GiB", spec=unknown)
        assert {c.need.words(4 * GIB) for c in setting.candidates} == {
            "cannot tell: the runs do not say how large the weights are"
        }


def test_what_ended_otherwise_is_said_and_not_asked_for_again(choose):
    lost = peak("snapkv", 1.0, status="out_of_memory", reason="no memory", peak_bytes=None)
    wrong = scored("h2o", 40, status="parity_failed", reason="off", score=None)
    (setting,) = choose([peak("full", 20.0), lost, wrong], "24GiB")
    assert {c.record.method: c.need.words(24 * GIB) for c in setting.candidates} == {
        "full": "fits: 20.0 GiB",
        "snapkv": "cannot tell: out of memory at 32,768 tokens",
        "h2o": "cannot tell: parity failed at 32,768 tokens",
    }
    assert memory_commands(setting) == []


def test_methods_whose_intervals_meet_are_not_ranked(choose):
    hits = {"full": 40, "snapkv": 38, "h2o": 33, "random_tokens": 4}
    records = [one for name, n in hits.items() for one in (peak(name, 16.0), scored(name, n))]
    (setting,) = choose(records, "24GiB")
    found = by_method(setting)
    assert [c.record.method for c in setting.candidates] == ["full", "snapkv", "h2o", "random_tokens"]
    assert reading(setting, found["snapkv"]) == "ahead of Random tokens"
    assert reading(setting, found["h2o"]) == "behind full attention; ahead of Random tokens"
    assert reading(setting, found["random_tokens"]) == "behind 3 others"
    assert answer(setting).endswith(
        "No method is shown to be more accurate than full attention or SnapKV; H2O and Random tokens are shown to "
        "be less accurate than another."
    )
    assert remarks(setting)[0].startswith("Score: passkey by needle@1, in points of 100")


def test_full_attention_is_judged_by_the_same_prompts(choose):
    """38 and 33 of 40: the intervals meet, and five prompts that only full attention finds are significant or not."""

    def paired(low, high, p):
        change = {"score_vs_full": -0.125, "score_vs_full_ci_low": low, "score_vs_full_ci_high": high}
        return scored("snapkv", 33, **change, score_vs_full_p=p, score_vs_full_pairs=40)

    for one, said in (
        (paired(-0.26, -0.02, 0.03), "behind full attention"),
        (paired(-0.26, -0.02, 0.06), "no difference shown"),
    ):
        (setting,) = choose([scored("full", 38), one])
        assert reading(setting, by_method(setting)["snapkv"]) == said


def test_few_prompts_tell_nothing(choose):
    (setting,) = choose([scored("full", 5, 5), scored("snapkv", 0, 5)])
    assert [reading(setting, c) for c in setting.candidates] == ["cannot tell, needs n ≥ 6"] * 2
    assert answer(setting) == (
        "Memory was measured for 0 of 2 methods at 32,768 tokens. The records cannot tell which of these is the most "
        "accurate: that needs 6 prompts each."
    )


def test_the_most_accurate_is_named_where_it_is_ahead_of_all(choose):
    (setting,) = choose([scored("snapkv", 39), scored("h2o", 20), scored("tova", 3)])
    assert answer(setting).endswith("The most accurate of these is SnapKV: 97.5 [87.1, 99.6].")
    (setting,) = choose([scored("snapkv", 39), scored("h2o", 38)])
    assert answer(setting).endswith("No difference in accuracy is shown between SnapKV and H2O.")


def test_scores_are_of_what_all_were_asked_and_of_one_scorer(choose):
    other = {"workload": "keys", "task": "keys@1", "scorer": "exact@2"}
    both = [scored(name, n, **more) for name, n in (("full", 40), ("snapkv", 20)) for more in ({}, other)]
    (setting,) = choose([*both, scored("h2o", 30)])
    assert {c.record.method: c.accuracy.score.value for c in setting.candidates} == {
        "full": 1.0,
        "snapkv": 0.5,
        "h2o": 0.75,
    }
    (setting,) = choose([*both, scored("h2o", 30), scored("h2o", 40, **other, seed=1)])
    assert [(q.workload, q.scorer) for q in setting.questions] == [("passkey", "needle@1"), ("keys", "exact@2")]
    assert by_method(setting)["h2o"].accuracy.score.value == pytest.approx(0.875)
    # by another scorer it is another question, and without one no score
    (setting,) = choose([scored("full", 40), scored("snapkv", 20, scorer="needle@2"), scored("h2o", 1, scorer=None)])
    assert [c.record.method for c in setting.candidates if c.accuracy] == ["full"]


def test_speeds_are_those_that_passed_parity(choose):
    ratio = {"speedup_vs_full": 2.0, "speedup_vs_full_ci_low": 1.9, "speedup_vs_full_ci_high": 2.1}
    more = GPU | ratio | {"baseline": "full/torch/sdpa-flash"}
    good = record(**more, method="snapkv", method_config={"tokens": 256})
    bad = record(**more, method="h2o", method_config={"tokens": 256}, parity_err=1.0)
    alone = record(**(more | {"backend": "torch"}), method="rope_scaling", method_config={})
    records = [stock(**(GPU | {"backend": "torch"})), good, bad, alone]
    (setting,) = choose(records)
    results = None
    found = by_method(setting)
    assert found["snapkv"].speed is not None
    assert found["h2o"].speed is None
    assert found["h2o"].accuracy is None
    assert found["rope_scaling"].speed is None
    assert speed_text(results, found["h2o"]) == "not measured"
    assert speed_text(results, found["full"]) == "baseline"


def test_models_dtypes_and_machines_stay_apart(choose):
    others = ({}, {"model": "other"}, {"dtype": "float16"}, {"gpu": "Another GPU"}, {"runtime": "CUDA 12.8"})
    records = [peak(n, 16.0, seed=i, **more) for i, more in enumerate(others) for n in ("full", "snapkv")]
    assert len({setting.title for setting in choose(records, "24GiB")}) == 5
    (setting,) = choose(records, "24GiB", model="other")
    assert setting.title == "other, bfloat16, Example GPU (sm_90, CUDA 13.0)"
    with pytest.raises(ConfigError, match=r'--model: unknown model of the records "othr"; did you mean "other"\?'):
        choose(records, "24GiB", model="othr")


def test_quantised_weights_stay_apart_and_count_as_measured(choose):
    cpu = {"device": "cpu", "gpu": None, "reserved_bytes": None, "dtype": "bfloat16"}
    int8 = {"quantize": "int8", "weights_bytes": 8 * GIB, "seed": 1}
    records = [peak(n, 1.0, **cpu, **more) for more in ({"weights_bytes": 15 * GIB}, int8) for n in ("full", "snapkv")]
    own, quantised = choose(records, "12GiB")
    assert (own.quantize, quantised.quantize) == (None, "int8")
    assert quantised.title.startswith("example-8b, bfloat16, int8 weights, ")
    assert {c.need.fit(12 * GIB) for c in own.candidates} == {"does not fit"}
    assert {c.need.fit(12 * GIB) for c in quantised.candidates} == {"fits"}
    commands = memory_commands(choose([*records, scored("h2o", 30, **cpu, **int8)], "12GiB")[1])
    assert commands
    assert all("--set suite.quantize=int8" in command for command in commands)


def test_without_a_length_it_is_the_longest_at_which_most_was_measured(choose):
    records = [peak(n, 16.0, context_tokens=c) for n in ("full", "snapkv") for c in (8192, 16384)]
    (setting,) = choose([*records, peak("snapkv", 16.0)], context=None)
    assert setting.context == 16384
    assert answer(setting).startswith(
        "Memory was measured for 2 of 2 methods at 16,384 tokens. The least take, as far as passes tell, full "
        "attention and SnapKV: 16.0 GiB."
    )
    assert choose([peak("snapkv", 16.0)], context=None) == []


def test_commands_are_only_of_what_is_missing_and_could_matter(choose):
    records = [peak("full", 30.0), peak("snapkv", 16.0), peak("h2o", 16.0, context_tokens=8192), scored("snapkv", 30)]
    (setting,) = choose(records, "24GiB")
    (memory,), (accuracy,) = memory_commands(setting), accuracy_commands(setting)
    assert memory == (
        'pcbench run --suite memory --model example-8b --device cuda --set \'suite.methods=["full", "h2o"]\' '
        "--set 'suite.context_tokens=[32768]' --set suite.dtype=bfloat16 --set 'cell.h2o.config={tokens = 256}'"
    )
    assert "--suite accuracy_smoke" in accuracy
    assert '\'suite.methods=["full", "h2o"]\'' in accuracy
    # random weights have no answers
    (setting,) = choose(records, "24GiB", spec=SPEC | {"trained": False})
    assert accuracy_commands(setting) == []
    assert "random" in answer(setting)


@pytest.mark.parametrize(
    ("text", "size"), [("24GiB", 24 << 30), ("80GB", 80 * 10**9), ("1.5 TiB", 3 << 39), ("512mib", 512 << 20)]
)
def test_sizes_are_read(text, size):
    assert read_memory(text) == size


@pytest.mark.parametrize("text", ["24", "24G", "GiB", "-1GiB", "1e3GB", "0GiB", "24 GiB of it", ""])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError, match="--memory: a size with its unit, as 24GiB or 80GB, got"):
        read_memory(text)
