import json

import pytest

from pcbench.errors import ConfigError, DataMissing
from pcbench.tasks.scorecard import scorecards
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


def test_the_difference_pairs_lines_by_number(tmp_path):
    one = store(tmp_path / "a", qasper=[("x", "x"), "broken", ("y", "y"), ("z", "z")])
    other = store(tmp_path / "b", qasper=[("", "x"), ("", "a"), ("y", "y"), "broken"])
    (card,) = scorecards(one, "longbench", against=other)
    difference = card["difference"]
    assert difference["n"] == {"qasper": 2}
    assert difference["average"] == difference["datasets"]["qasper"]["difference"] == 50.0
    assert difference["skipped_lines"][0]["line"] == 4
    assert card["skipped_lines"][0]["line"] == 2


def test_the_difference_tests_datasets_that_are_right_or_wrong(tmp_path):
    right, wrong, half = ("x", "x"), ("", "x"), ("x y y", "x")
    one = store(tmp_path / "a", qasper=[right] * 6, hotpotqa=[right] * 5 + [half])
    other = store(tmp_path / "b", qasper=[wrong] * 5 + [right], hotpotqa=[wrong] * 6)
    (card,) = scorecards(one, "longbench", against=other)
    datasets = card["difference"]["datasets"]
    # five prompts apart, all for one side: 2 / 2⁵
    assert datasets["qasper"]["mcnemar_p"] == 0.0625
    assert "mcnemar_p" not in datasets["hotpotqa"]


def test_the_difference_of_a_folder_with_itself_is_zero_and_changes_sign_when_turned_round(tmp_path):
    one = store(tmp_path / "a", qasper=[("x", "x"), ("y", "x")] * 20, lcc=[("ab", "ab"), ("c", "ab")] * 20)
    other = store(tmp_path / "b", qasper=[("x", "x")] * 40, lcc=[("ab", "ab")] * 40)
    same = scorecards(one, "longbench", against=one)[0]["difference"]
    assert (same["average"], same["ci_low"], same["ci_high"]) == (0.0, 0.0, 0.0)
    there, back = (scorecards(a, "longbench", against=b)[0]["difference"] for a, b in ((one, other), (other, one)))
    assert there["average"] == -back["average"] == -50.0
    assert there["ci_low"] < -50.0 < there["ci_high"] < 0


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
