"""Predictions as other projects and our own runs store them."""

import json

import pytest
from tasks.made_predictions import factory, own_run, v2, write

from pcbench.errors import ConfigError, DataMissing
from pcbench.tasks.scorecards.scorecard import scorecards


def card(path, benchmark, **options):
    (found,) = scorecards(path, benchmark, **options)
    return found


def ruler(index, pred, outputs):
    return {"index": index, "pred": pred, "input": "…", "outputs": outputs, "others": {}, "truncation": -1, "length": 9}


def test_ruler_takes_its_files_and_pairs_by_index_in_any_order(tmp_path):
    lines = [ruler(7, "1 and 2", ["1", "2"]), ruler(3, "1", ["1", "2"]), ruler(5, "", ["4"])]
    write(tmp_path / "a/niah_multivalue.jsonl", lines)
    write(tmp_path / "b/niah_multivalue.jsonl", [ruler(5, "4", ["4"]), *reversed(lines[:2])])
    write(tmp_path / "a/vt-0.jsonl", lines)
    found = card(tmp_path / "a", "ruler", against=tmp_path / "b")
    assert (found["scorer"], found["datasets"], found["n"]) == (
        "ruler",
        {"niah_multivalue": 50.0},
        {"niah_multivalue": 3},
    )
    assert found["skipped"] == {"vt-0": "a part of vt; join the parts to vt.jsonl"}
    assert found["difference"]["datasets"]["niah_multivalue"]["difference"] == -33.33


def e_line(pred, length, answers=("x",)):
    return {"pred": pred, "answers": list(answers), "all_classes": None, "length": length}


def test_longbench_e_has_scores_by_length(tmp_path):
    write(tmp_path / "qasper.jsonl", [e_line("x", 3999), e_line("y", 0), e_line("x", 4000), e_line("x", 8000)])
    write(tmp_path / "2wikimqa.jsonl", [e_line("y", 10), {"pred": "x", "answers": ["x"]}])
    write(tmp_path / "musique.jsonl", [e_line("x", 1)])
    found = card(tmp_path, "longbench-e")
    assert found["groups"] == {"qasper": {"0-4k": 50.0, "4-8k": 100.0, "8k+": 100.0}, "2wikimqa": {"0-4k": 0.0}}
    assert found["group_n"]["qasper"] == {"0-4k": 2, "4-8k": 1, "8k+": 1}
    assert found["group_average"] == {"0-4k": 25.0, "4-8k": 100.0, "8k+": 100.0}
    assert found["average"] == 37.5
    assert found["skipped"] == {"musique": "not a dataset of longbench-e"}
    assert found["skipped_lines"] == [
        {"file": "2wikimqa.jsonl", "line": 2, "reason": "length: the record's number of words, got nothing"}
    ]


def test_longbench_v2_reads_the_answer_behind_a_chain_of_thought(tmp_path):
    lines = [
        v2("a", "The correct answer is (A)", "A", "easy", "short", response_cot="The correct answer is (B)"),
        v2("b", "**The correct answer is C**", "C", "hard", "long", response_cot="so C"),
        v2("c", "", "B", "hard", "medium", response_cot=""),
        v2("d", "x", "D", "hard", "enormous"),
    ]
    file = write(tmp_path / "Qwen_cot.jsonl", lines)
    for path in (file, tmp_path):
        found = card(path, "longbench-v2")
        assert found["datasets"] == {"longbench-v2": 66.67}
        assert found["groups"]["longbench-v2"] == {
            "easy": 100.0,
            "hard": 50.0,
            "short": 100.0,
            "medium": 0.0,
            "long": 100.0,
        }
        (skipped,) = found["skipped_lines"]
        assert (skipped["file"], skipped["line"]) == ("Qwen_cot.jsonl", 4)
        assert skipped["reason"] == "length: short or medium or long, got 'enormous'"
    write(tmp_path / "Llama.jsonl", list(reversed(lines[:3])))
    with pytest.raises(
        ConfigError, match=r"one file of longbench-v2, got Llama.jsonl, Qwen_cot.jsonl; give one of them"
    ):
        card(tmp_path, "longbench-v2")
    against = card(file, "longbench-v2", against=tmp_path / "Llama.jsonl")["difference"]
    assert (against["n"], against["average"]) == ({"longbench-v2": 3}, 0.0)


def test_gsm8k_takes_plain_lines_and_those_of_lm_eval(tmp_path):
    plain = [{"id": i, "pred": f"so {n}", "answer": "3 + 4 = 7\n#### 7"} for i, n in enumerate((7, 8))]
    doc = {"question": "?", "answer": "3 + 4 = 7\n#### 7"}
    logged = [
        {"doc_id": i, "doc": doc, "target": "7", "resps": [[text]], "filtered_resps": [kept], "filter": name}
        for name, kept in (("strict-match", "[invalid]"), ("flexible-extract", "7"))
        for i, text in ((1, "#### 8"), (0, "it is 7"))
    ]
    write(tmp_path / "plain/gsm8k.jsonl", plain)
    write(tmp_path / "logged/samples_gsm8k_2026-11-30T10-00-00.000001.jsonl", logged)
    write(tmp_path / "logged/results.jsonl", [{}])
    for folder in ("plain", "logged"):
        assert card(tmp_path / folder, "gsm8k")["datasets"] == {"gsm8k": 50.0}
    difference = card(tmp_path / "plain", "gsm8k", against=tmp_path / "logged")["difference"]
    assert (difference["n"], difference["average"]) == ({"gsm8k": 2}, 0.0)


def test_kvcache_factory_has_a_folder_for_each_dataset_and_a_file_for_each_method(tmp_path):
    factory(tmp_path, "qasper", "FullKV", {"r1": "x", "r2": "x"})
    factory(tmp_path, "qasper", "SnapKV", {"r2": "x", "r1": "y"})
    factory(tmp_path, "hotpotqa", "FullKV", {"r1": "x"})
    (tmp_path / "qasper/metrics.json").write_text('{"qasper": 50.0}')
    (tmp_path / "results.csv").write_text("")
    found = card(tmp_path, "longbench", method="SnapKV", against_method="FullKV")
    assert found["datasets"] == {"qasper": 50.0}
    assert found["skipped"] == {"hotpotqa": "no predictions of SnapKV"}
    assert found["difference"]["datasets"]["qasper"]["difference"] == -50.0
    assert card(tmp_path, "longbench-e", method="FullKV")["groups"]["qasper"] == {"0-4k": 100.0}
    with pytest.raises(ConfigError, match=r"--method: the one to be scored of .* which holds FullKV, SnapKV; name one"):
        card(tmp_path, "longbench")
    with pytest.raises(ConfigError, match=r"--method: one of FullKV, SnapKV in .*, got H2O"):
        card(tmp_path, "longbench", method="H2O")


def test_two_files_of_a_method_are_refused(tmp_path):
    factory(tmp_path, "qasper", "SnapKV", {"r1": "x"}).with_suffix(".jsonl").write_text("{}")
    with pytest.raises(ConfigError, match=r"one file of SnapKV, got SnapKV.json, SnapKV.jsonl; leave one"):
        card(tmp_path, "longbench")


def test_samples_of_lm_eval_are_paired_by_the_ids_of_their_records(tmp_path):
    lines = [{"_id": key, "pred": "x", "answers": ["x"], "all_classes": None} for key in ("r1", "r2")]
    write(tmp_path / "a/qasper.jsonl", lines)
    logged = [{"doc_id": i, "doc": line, "resps": [["y"]]} for i, line in enumerate(reversed(lines))]
    write(tmp_path / "b/samples_longbench_qasper_2026-11-30T10-00-00.jsonl", logged)
    difference = card(tmp_path / "a", "longbench", against=tmp_path / "b")["difference"]
    assert (difference["n"], difference["average"]) == ({"qasper": 2}, 100.0)


def test_a_file_holds_one_method(tmp_path):
    file = write(tmp_path / "gsm8k.jsonl", [{"id": 1, "pred": "7", "answer": "#### 7"}])
    for options in ({"method": "SnapKV"}, {"against_method": "FullKV"}):
        with pytest.raises(ConfigError, match=r"--method: for a folder with predictions of several methods"):
            card(file, "gsm8k", **options)


def test_a_method_is_asked_only_where_there_are_several(tmp_path):
    write(tmp_path / "qasper.jsonl", [e_line("x", 1)])
    with pytest.raises(ConfigError, match=r"--method: for a folder with predictions of several methods"):
        card(tmp_path, "longbench", method="SnapKV")


@pytest.fixture
def run(tmp_path):
    """A run of ours whose pass keys stand as answers of LongBench-E, at one length."""
    return own_run(tmp_path / "run", "longbench-e/qasper")


def test_answers_of_a_run_are_scored_again(run):
    found = card(run, "longbench-e", method="full", against_method="snapkv")
    assert found["n"] == {"qasper": 6}
    assert list(found["groups"]["qasper"]) == ["4-8k"]
    assert found["difference"]["n"] == {"qasper": 6}
    assert card(run / "samples.jsonl", "longbench-e", method="Full attention")["datasets"] == found["datasets"]
    with pytest.raises(ConfigError, match=r'--method: one of .*"SnapKV".*, got several; name one'):
        card(run, "longbench-e")
    with pytest.raises(ConfigError, match="got nothing of h3o"):
        card(run, "longbench-e", method="h3o")
    with pytest.raises(DataMissing, match=r"answers to tasks of ruler, got answers to longbench-e/qasper@1"):
        card(run, "ruler")


def test_answers_over_quantised_weights_are_another_choice(run):
    records, samples = (
        [json.loads(line) for line in (run / f"{name}.jsonl").open()] for name in ("records", "samples")
    )
    (full,) = (record for record in records if record["method"] == "full")
    other = {"cell": "0123456789ab", "quantize": "int8"}
    write(run / "records.jsonl", [*records, full | other])
    of_full = [sample for sample in samples if sample["cell"] == full["cell"]]
    write(
        run / "samples.jsonl", [*samples, *({**sample, "cell": other["cell"], "prediction": "?"} for sample in of_full)]
    )
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"cells": [*manifest["cells"], other["cell"]]}))
    with pytest.raises(
        ConfigError, match=r'"Full attention", "Full attention, int8 weights" in .*, got several of full'
    ):
        card(run, "longbench-e", method="full")
    assert card(run, "longbench-e", method="Full attention, int8 weights")["datasets"] == {"qasper": 0.0}
    assert card(run, "longbench-e", method="Full attention")["datasets"]["qasper"] > 0


def test_answers_of_a_run_are_never_paired_by_number_of_line(run, tmp_path):
    answers = [json.loads(line)["answers"] for line in (run / "samples.jsonl").read_text().splitlines()]
    write(tmp_path / "other/qasper.jsonl", [{"pred": "x", "answers": each, "length": 1} for each in answers[:6]])
    with pytest.raises(DataMissing, match="--against: a dataset that"):
        card(run, "longbench-e", method="full", against=tmp_path / "other")
