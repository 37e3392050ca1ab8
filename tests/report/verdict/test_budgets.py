"""Which method at which budget."""

import pytest
from report.made_methods import METHODS, method_records
from report.made_runs import suite_records, write_run

from pcbench.report.reading.results import Results
from pcbench.report.reading.runs import read_runs
from pcbench.report.verdict.budgets import front, places, steps, words


@pytest.fixture
def results(tmp_path):
    return lambda records: Results(read_runs([write_run(tmp_path / "run", records)]))


def test_places_have_two_methods_beside_full_attention(results):
    (place,) = places(results(method_records()))
    assert place.title == "passkey, 4,096 tokens"
    assert place.full.entry.record.is_full
    assert len(place.options) == 6
    assert place.gain(place.options[0]) == pytest.approx(90 / 6)


def test_an_average_holds_the_mean_of_its_cells(results):
    short, long, mean = method_records(), method_records(), method_records()
    for i, one in enumerate(long):
        one.workload, one.kv_bytes, one.group, one.cell = "long", one.kv_bytes * 3, "long", f"long{i}"
    for i, one in enumerate(mean):
        one.workload, one.kv_bytes, one.group, one.cell = "average", None, "average", f"average{i}"
        one.task, one.samples_ms = "average of passkey, long", None
    first, *others = places(results([*short, *long, *mean]))
    assert first.title == "average, 4,096 tokens"
    assert {option.kv_bytes / (1 << 20) for option in first.options} == {12, 24}
    assert first.full.kv_bytes == 180 << 20
    assert [place.title for place in others] == ["passkey, 4,096 tokens", "long, 4,096 tokens"]


def test_one_method_is_no_choice(results):
    assert places(results(suite_records())) == []


def test_what_is_not_ok_is_no_choice(results):
    records = method_records()
    for one in records[3:]:
        one.status = "error"
    assert places(results(records)) == []


def test_steps_join_what_holds_about_as_much(results):
    records = method_records()
    records[1].kv_bytes = int(records[1].kv_bytes * 1.1)
    (place,) = places(results(records))
    assert [[o.entry.record.method for o in some] for some in steps(place)] == [
        ["h2o", "random_tokens", "snapkv"],
        ["snapkv", "h2o", "random_tokens"],
    ]


def test_room_for_an_answer_makes_no_budget_of_its_own(results):
    """A budget of 64 tokens with 128 for the answer: a store that grows is three times as large."""
    records = method_records()
    for one in records[1:]:
        one.kv_bytes_prompt = one.kv_bytes
        one.kv_bytes = one.kv_bytes * 3 if one.method == "snapkv" else one.kv_bytes
    (place,) = places(results(records))
    assert [[o.entry.record.method for o in some] for some in steps(place)] == [["snapkv", "h2o", "random_tokens"]] * 2
    assert [option.kv_bytes / (1 << 20) for option in place.options] == [6, 6, 6, 12, 12, 12]


def test_only_what_intervals_hold_apart_is_said_to_be_ahead(results):
    found = {"snapkv": (0.925, 0.90, 0.95), "h2o": (0.85, 0.79, 0.91), "random_tokens": (0.80, 0.74, 0.86)}
    records = [one for one in method_records() if one.method_config.get("tokens") != 512]
    for one in records[1:]:
        one.score, one.score_ci_low, one.score_ci_high = found[one.method]
    assert (
        "best score: cannot tell between SnapKV, H2O (best 92.50 [90.0, 95.0]); SnapKV is ahead of Random tokens;"
        in (words(places(results(records))[0])[0])
    )


def test_words_name_the_best_only_where_its_interval_meets_no_other(results):
    (place,) = places(results(method_records()))
    small, large = words(place)
    assert small == (
        "passkey, 4,096 tokens, 6.00 MiB of keys and values (15.0 times smaller than full attention's): best score: "
        "cannot tell between SnapKV, H2O (best 90.00 [59.6, 98.2]), which are ahead of Random tokens; fastest "
        "decoding: cannot tell between Random tokens, SnapKV (best 19.80 ms [19.70, 19.90]), which are ahead of H2O; "
        "fastest prefill: cannot tell between SnapKV, H2O, Random tokens (best 38,000 ms [37,900, 38,100])."
    )
    assert large.startswith("passkey, 4,096 tokens, 12.0 MiB")


def test_words_tell_cells_of_one_method_apart(results):
    records = method_records()
    records[2].kv_bytes = records[1].kv_bytes
    (place,) = places(results(records))
    assert "between SnapKV, 512 tokens kept, SnapKV, 256 tokens kept, H2O (best 100.0" in words(place)[0]


def test_words_name_one_that_is_apart(results):
    (place,) = places(results(method_records({**METHODS, "h2o": ((1, 26.0), (0, 29.0))})))
    assert "best score: SnapKV 90.00 [59.6, 98.2];" in words(place)[0]


def test_without_an_interval_nothing_is_told_apart(results):
    records = method_records({**METHODS, "h2o": ((1, 26.0), (0, 29.0))})
    for one in records:
        one.score_ci_low = one.score_ci_high = None
    (place,) = places(results(records))
    assert "best score: cannot tell between SnapKV, H2O, Random tokens (best 90.00)" in words(place)[0]


def test_front_takes_the_least_of_x_and_the_most_or_least_of_y():
    points = [(1.0, 5.0), (2.0, 9.0), (2.0, 4.0), (3.0, 9.0), (0.5, 1.0)]
    assert front(points, most=True) == [True, True, False, False, True]
    assert front(points, most=False) == [False, False, False, False, True]
    assert front([(1.0, 1.0), (1.0, 1.0)], most=True) == [True, True]
