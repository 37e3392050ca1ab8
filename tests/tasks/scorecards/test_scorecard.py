import json

import pytest

from pcbench.errors import ConfigError, DataMissing
from pcbench.tasks.scorecards.scorecard import scorecards
from pcbench.tasks.scorecards.text import notes
from pcbench.tasks.scorers import metrics


def store(folder, **datasets):
    """Writes predictions given as (pred, answer) pairs, or as whole lines."""
    folder.mkdir(exist_ok=True)
    for name, pairs in datasets.items():
        lines = [p if isinstance(p, str) else json.dumps({"pred": p[0], "answers": [p[1]]}) for p in pairs]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_scorecards_hold_percent_with_two_decimals_and_the_mean_of_unrounded_scores(tmp_path):
    folder = store(tmp_path / "a", qasper=[("x", "x"), ("y", "x"), ("z", "x")], lcc=[("ab", "ab")] * 2 + [("c", "ab")])
    (card,) = scorecards(folder, "longbench")
    assert card == {
        "benchmark": "longbench",
        "scorer": "longbench-official+indel",
        "scorer_version": 1,
        "datasets": {"qasper": 33.33, "lcc": 66.67},
        "average": 50.0,
        "average_over": ["qasper", "lcc"],
        "n": {"qasper": 3, "lcc": 3},
        "few": {"qasper": 3, "lcc": 3},
        "repeated_lines": {},
        "skipped": {},
        "skipped_lines": [],
    }


def test_the_average_of_longbench_leaves_chinese_out(tmp_path):
    folder = store(tmp_path / "a", qasper=[("x", "x")], passage_retrieval_zh=[("1", "段落2")])
    (card,) = scorecards(folder, "longbench")
    assert card["datasets"] == {"qasper": 100.0, "passage_retrieval_zh": 0.0}
    assert (card["average"], card["average_over"]) == (100.0, ["qasper"])
    (card,) = scorecards(store(tmp_path / "b", passage_retrieval_zh=[("1", "段落2")]), "longbench")
    assert (card["average"], card["average_over"]) == (None, [])


def test_lines_that_do_not_fit_their_metric_are_named_and_the_rest_is_scored(tmp_path):
    folder = tmp_path / "a"
    store(folder, preds_code_debug=['{"prediction": "B", "ground_truth": ["B"]}'])
    store(folder, preds_math_find=[f'{{"prediction": "7", "ground_truth": {truth}}}' for truth in ("7", '"x"', "[]")])
    (card,) = scorecards(folder, "infinitebench")
    assert card["datasets"] == {"math_find": 100.0}
    assert card["skipped"] == {"code_debug": "no line could be scored"}
    assert [(s["file"], s["line"], s["reason"].partition(":")[0]) for s in card["skipped_lines"]] == [
        ("preds_code_debug.jsonl", 1, "at least 2 answers, got 1"),
        ("preds_math_find.jsonl", 2, "answers that fit accuracy, got 'x'"),
        ("preds_math_find.jsonl", 3, "at least 1 answers, got 0"),
    ]
    (card,) = scorecards(store(tmp_path / "b", trec=[("City", "City")], qasper=[("x", "x")]), "longbench")
    assert [s["reason"] for s in card["skipped_lines"]] == ["all_classes: the names of the classes, got none"]


def test_a_number_that_a_metric_cannot_hold_is_named_and_the_rest_is_scored(tmp_path):
    lines = [f'{{"prediction": "7", "ground_truth": {truth}}}' for truth in ("7", "1" + "0" * 400, "Infinity")]
    store(tmp_path, preds_math_find=lines, preds_code_run=[lines[2], lines[0]])
    (card,) = scorecards(tmp_path, "infinitebench")
    assert card["datasets"] == {"math_find": 100.0, "code_run": 100.0}
    assert [(s["file"], s["line"]) for s in card["skipped_lines"]] == [
        ("preds_code_run.jsonl", 1),
        ("preds_math_find.jsonl", 2),
        ("preds_math_find.jsonl", 3),
    ]
    assert all(len(s["reason"]) < 200 for s in card["skipped_lines"])


def test_a_dataset_whose_package_is_missing_is_skipped_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("pcbench.tasks.scorers.find_spec", lambda package: None)
    (card,) = scorecards(store(tmp_path / "a", qasper=[("x", "x")], dureader=[("x", "x")]), "longbench")
    assert card["skipped"] == {"dureader": "needs jieba; pip install 'pcbench[zh]'"}
    assert card["datasets"] == {"qasper": 100.0}


def test_all_scores_by_every_scorer_with_rules_and_shared_metrics_once(tmp_path, monkeypatch):
    calls = []
    whole = metrics.overlap._f1
    monkeypatch.setattr(metrics.overlap, "_f1", lambda *words: calls.append(words) or whole(*words))
    folder = store(tmp_path / "a", qasper=[("x", "x")], lcc=[("  a", "a")])
    cards = {card["scorer"]: card for card in scorecards(folder, "longbench", "all")}
    assert [name for name in cards if not name.startswith("longbench")] == ["kvpress", "lm-eval-v6"]
    assert [name.partition("+")[2] for name in cards][:3] == ["indel", "difflib", "indel-unrounded"]
    assert cards["kvpress"]["datasets"] == {"lcc": 100.0}
    assert cards["kvpress"]["skipped"] == {"qasper": "kvpress has no rule for it"}
    assert cards["lm-eval-v6"]["datasets"] == {"lcc": 50.0}
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("longbnech",), '--benchmark: unknown benchmark "longbnech"; did you mean "longbench"?'),
        (("longbench", "kvpres"), '--scorer: unknown scorer "kvpres"; did you mean "kvpress"?'),
        (("longbench", "infinitebench-2024-06"), "--scorer: one with rules for longbench, got infinitebench-2024-06"),
        (("longbench", "scrolls"), "--scorer: one with rules for longbench, got scrolls; known: kvpress, lm-eval-v6, "),
        (("longbench", "needle"), "--scorer: one with rules for longbench, got needle; known: kvpress, lm-eval-v6, "),
    ],
)
def test_scorecards_refuse_unknown_names(tmp_path, arguments, message):
    folder = store(tmp_path / "a", qasper=[("x", "x")])
    with pytest.raises(ConfigError) as caught:
        scorecards(folder, *arguments)
    assert str(caught.value).startswith(message)


def test_scorecards_refuse_a_folder_without_anything_to_score(tmp_path):
    folder = store(tmp_path / "a", qasper=[("x", "x")])
    with pytest.raises(DataMissing, match="a dataset that kvpress can score, got none; qasper: kvpress has no rule"):
        scorecards(folder, "longbench", "kvpress")


def against(one, other, scorer=None, benchmark="longbench"):
    (card,) = scorecards(one, benchmark, scorer, other)
    return card["difference"]


RIGHT, WRONG, HALF = ("x", "x"), ("", "x"), ("x y y", "x")


def test_the_difference_pairs_lines_by_number(tmp_path):
    one = store(tmp_path / "a", qasper=[("x", "x"), "broken", ("y", "y"), ("z", "z")])
    other = store(tmp_path / "b", qasper=[("", "x"), ("", "a"), ("y", "y"), "broken"])
    difference = against(one, other)
    assert difference["n"] == {"qasper": 2}
    assert difference["average"] == difference["datasets"]["qasper"]["difference"] == 50.0
    assert difference["skipped_lines"][0]["line"] == 4
    assert scorecards(one, "longbench")[0]["skipped_lines"][0]["line"] == 2


def test_the_difference_names_and_counts_lines_without_a_partner(tmp_path):
    one = store(tmp_path / "a", qasper=[RIGHT, "broken", RIGHT, RIGHT], lcc=[RIGHT])
    other = store(tmp_path / "b", qasper=[WRONG, WRONG, "broken"], lcc=[RIGHT])
    difference = against(one, other)
    assert difference["unpaired"] == {"qasper": 3}
    assert difference["unpaired_lines"] == [
        {"file": "qasper.jsonl", "line": 2, "reason": "no score in this folder"},
        {"file": "qasper.jsonl", "line": 3, "reason": "no score in the other folder"},
        {"file": "qasper.jsonl", "line": 4, "reason": "no score in the other folder"},
    ]
    same = against(one, one)
    assert (same["unpaired"], same["unpaired_lines"]) == ({}, [])


def test_the_difference_cannot_tell_under_six_pairs(tmp_path):
    one = store(tmp_path / "a", qasper=[RIGHT] * 200)
    difference = against(one, store(tmp_path / "b", qasper=[WRONG]))
    assert difference["unpaired"] == {"qasper": 199}
    # Tango's interval of one pair
    nothing = {"ci_low": -58.69, "ci_high": 100.0, "words": "cannot tell, needs n ≥ 6", "mcnemar_p": 1.0}
    assert difference["datasets"] == {"qasper": {"difference": 100.0, **nothing}}
    assert {key: difference[key] for key in ("average", *nothing)} == {"average": 100.0, **nothing}


def test_one_small_dataset_takes_the_interval_of_the_average(tmp_path):
    one = store(tmp_path / "a", qasper=[RIGHT] * 40, hotpotqa=[HALF] * 4)
    difference = against(one, store(tmp_path / "b", qasper=[RIGHT, WRONG] * 20, hotpotqa=[WRONG] * 4))
    assert difference["datasets"]["qasper"]["words"] == "higher"
    assert difference["datasets"]["hotpotqa"]["ci_low"] is None
    assert (difference["average"], difference["ci_low"], difference["words"]) == (
        50.0,
        None,
        "cannot tell, needs n ≥ 6",
    )


def test_a_difference_needs_both_tests_to_agree(tmp_path):
    one = store(tmp_path / "a", qasper=[RIGHT] * 5)
    difference = against(one, store(tmp_path / "b", qasper=[WRONG] * 5))
    # five prompts apart, all for one side: 2 / 2⁵, and no outcome of five has a smaller p
    found = {"ci_low": 13.1, "ci_high": 100.0, "words": "cannot tell, needs n ≥ 6", "mcnemar_p": 0.0625}
    assert difference["datasets"]["qasper"] == {"difference": 100.0, **found}
    assert {key: difference[key] for key in ("average", *found)} == {"average": 100.0, **found}
    one = store(tmp_path / "c", qasper=[RIGHT] * 6)
    assert against(one, store(tmp_path / "d", qasper=[WRONG] * 6))["words"] == "higher"
    assert against(tmp_path / "d", one)["words"] == "lower"


def test_the_words_of_a_difference_fit_the_interval_that_is_shown(tmp_path):
    long = " ".join(f"w{i}" for i in range(200))
    one = store(tmp_path / "a", qasper=[(long, long)] * 100)
    other = store(tmp_path / "b", qasper=[(f"{long} more", long)] * 4 + [(long, long)] * 96)
    # 4 of 100 lines lose 0.25 points each: the interval begins at 0.0025
    found = against(one, other)["datasets"]["qasper"]
    assert (found["difference"], found["ci_low"], found["ci_high"]) == (0.01, 0.0, 0.02)
    assert found["words"] == "no significant difference"


def test_the_difference_tests_datasets_that_are_right_or_wrong(tmp_path):
    one = store(tmp_path / "a", qasper=[RIGHT] * 6, hotpotqa=[RIGHT] * 5 + [HALF])
    difference = against(one, store(tmp_path / "b", qasper=[WRONG] * 5 + [RIGHT], hotpotqa=[WRONG] * 6))
    assert difference["datasets"]["qasper"]["mcnemar_p"] == 0.0625
    assert "mcnemar_p" not in difference["datasets"]["hotpotqa"]
    assert difference["datasets"]["hotpotqa"]["words"] == "higher"
    # a mean over both rests on the interval alone
    assert "mcnemar_p" not in difference


def test_the_difference_of_a_folder_with_itself_is_zero_and_changes_sign_when_turned_round(tmp_path):
    one = store(tmp_path / "a", qasper=[("x", "x"), ("y", "x")] * 20, lcc=[("ab", "ab"), ("c", "ab")] * 20)
    other = store(tmp_path / "b", qasper=[("x", "x")] * 40, lcc=[("ab", "ab")] * 40)
    same = scorecards(one, "longbench", against=one)[0]["difference"]
    # 40 prompts without a difference do not exclude a small one: z² / (n + z²), over the square root of two datasets
    assert (same["average"], same["ci_low"], same["ci_high"]) == (0.0, -6.2, 6.2)
    assert same["words"] == "no significant difference"
    there, back = (scorecards(a, "longbench", against=b)[0]["difference"] for a, b in ((one, other), (other, one)))
    assert there["average"] == -back["average"] == -50.0
    assert there["ci_low"] < -50.0 < there["ci_high"] < 0


def identified(folder, *lines):
    """A file whose lines are (id, pred, answer)."""
    made = [json.dumps({"_id": i, "pred": pred, "answers": [answer]}) for i, pred, answer in lines]
    return store(folder, qasper=made)


def test_an_id_that_comes_twice_counts_once_and_the_last_line_is_it(tmp_path):
    """A file to which a run that was resumed appended."""
    first = [(i, "x", "x") for i in range(5)]
    again = [(i, "x" if i in (0, 5, 6, 7) else "y", "x") for i in range(12)]
    folder = identified(tmp_path / "a", *first, *again)
    (card,) = scorecards(folder, "longbench")
    assert (card["n"], card["datasets"]) == ({"qasper": 12}, {"qasper": 33.33})
    assert card["repeated_lines"] == {"qasper": [1, 2, 3, 4, 5]}
    once = identified(tmp_path / "b", *again)
    assert against(folder, once)["datasets"] == against(once, once)["datasets"]
    assert against(once, folder)["repeated_lines"] == card["repeated_lines"]


def test_the_difference_of_files_appended_twice_is_that_of_their_records(tmp_path):
    ours, theirs = [(i, "x", "x") for i in range(5)], [(i, "y", "x") for i in range(5)]
    twice = identified(tmp_path / "a", *ours, *ours)
    found = against(twice, identified(tmp_path / "b", *theirs, *theirs))
    assert (found["n"], found["words"]) == ({"qasper": 5}, "cannot tell, needs n ≥ 6")


def test_the_difference_pairs_ids_in_any_order(tmp_path):
    ours = [(i, "x" if i < 8 else "y", "x") for i in range(10)]
    one, other = identified(tmp_path / "a", *ours), identified(tmp_path / "b", *reversed(ours[1:]), (77, "x", "x"))
    found = against(one, other)
    assert (found["n"], found["average"]) == ({"qasper": 9}, 0.0)
    assert found["unpaired_lines"] == [
        {"file": "qasper.jsonl", "line": 1, "reason": "no score in the other folder"},
        {"file": "qasper.jsonl", "line": 10, "reason": "no score in this folder"},
    ]


def test_the_difference_pairs_lines_where_one_file_has_no_ids(tmp_path):
    one = identified(tmp_path / "a", *[(i, "x", "x") for i in range(6)])
    assert against(one, store(tmp_path / "b", qasper=[WRONG] * 6))["words"] == "higher"
    twice = identified(tmp_path / "c", *[(0, "x", "x")] * 2)
    with pytest.raises(DataMissing, match=r"a dataset that .* has too, with the same answers, got none"):
        scorecards(twice, "longbench", against=tmp_path / "b")


def test_ids_of_other_answers_are_refused_by_line(tmp_path):
    one = identified(tmp_path / "a", (0, "x", "x"), (1, "x", "x"))
    other = identified(tmp_path / "b", (0, "x", "x"), (1, "x", "z"))
    store(one, lcc=[RIGHT]), store(other, lcc=[RIGHT])
    assert against(one, other)["skipped"] == {"qasper": "the answers of id 1 differ"}
    broken = store(identified(tmp_path / "c", (3, "x", "x"), (3, "x", "z")), lcc=[RIGHT])
    (card,) = scorecards(broken, "longbench")
    assert card["skipped"] == {
        "qasper": "lines 1 and 2 have one id, 3, and other answers; give every record an id of its own, or none"
    }


@pytest.mark.parametrize("wrong", [[1], {}, True])
def test_an_id_that_is_none_skips_its_line(tmp_path, wrong):
    folder = identified(tmp_path / "a", (0, "x", "x"), (wrong, "y", "x"))
    (card,) = scorecards(folder, "longbench")
    assert (card["n"], card["datasets"]) == ({"qasper": 1}, {"qasper": 100.0})
    assert card["skipped_lines"][0]["reason"].startswith("_id or id: a string or a number, got ")


def test_datasets_of_few_lines_are_named_beside_the_average(tmp_path):
    folder = store(tmp_path / "a", qasper=[RIGHT] * 19, hotpotqa=[RIGHT] * 20, passage_retrieval_zh=[RIGHT])
    (card,) = scorecards(folder, "longbench")
    assert card["few"] == {"qasper": 19}
    assert "over 2 datasets; few lines: qasper 19" in next(notes(card, [card]))


def test_datasets_that_cannot_be_paired_are_named(tmp_path):
    one = store(tmp_path / "a", qasper=[("x", "x")], lcc=[("a", "a")], musique=[("a", "a")])
    other = store(tmp_path / "b", qasper=[("x", "x")], lcc=[("a", "b")], hotpotqa=[("a", "a")])
    difference = scorecards(one, "longbench", against=other)[0]["difference"]
    assert difference["average_over"] == ["qasper"]
    assert difference["skipped"] == {
        "hotpotqa": "only in the other folder",
        "musique": "not in the other folder",
        "lcc": "the answers of line 1 differ",
    }
    with pytest.raises(DataMissing, match=r"--against: a dataset that .* has too, with the same answers, got none"):
        scorecards(store(tmp_path / "c", musique=[("a", "a")]), "longbench", against=other)


def test_right_answers_after_a_thought_count_as_much_as_without_one(tmp_path):
    thought = "<think>\nThere are 12 or 9.\n</think>\n\n"
    plain = store(tmp_path / "a", passage_count=[("9", "9")] * 3, hotpotqa=[("Rome", "Rome")] * 2)
    think = store(
        tmp_path / "b",
        passage_count=[(f"{thought}9", "9"), ("9", "9"), ("<think>12 or 9", "9")],
        hotpotqa=[(f"{thought}Rome", "Rome")] * 2,
    )
    (card,) = scorecards(think, "longbench", against=plain)
    assert card["datasets"] == {"passage_count": 66.67, "hotpotqa": 100.0}
    assert (card["answer_rule"], card["thoughts"]) == ("after-think@1", {"hotpotqa": 2, "passage_count": 2})
    assert "answer_rule" not in card["difference"]
    assert "after-think@1: predictions whose thought was cut before scoring: hotpotqa 2, passage_count 2" in notes(
        card, ()
    )
    (kept,) = scorecards(think, "longbench", keep_thoughts=True)
    assert kept["datasets"] == {"passage_count": 72.22, "hotpotqa": 22.22}
    assert "thoughts" not in kept
