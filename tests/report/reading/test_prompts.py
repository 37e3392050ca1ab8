"""What a report keeps of samples."""

import json
import re

from report.made_accuracy import needle_samples, write_with_samples
from report.made_runs import read_page, record, stock

from pcbench.report import build
from pcbench.report.reading.prompts import CHARACTERS, DEPTHS, SHOWN, PackedPrompts, keep
from pcbench.types import Sample


def sample(**changes) -> Sample:
    fields = {"cell": "c", "task": "t@1", "id": "t@1/1/0/0", "prediction": "p", "answers": ["a"], "score": 1.0,
              "scorer": "needle@1", "prompt_sha256": "0" * 64}  # fmt: skip
    return Sample(**(fields | changes))


def test_keep_counts_every_prompt_by_depth():
    one = record(chunks=4)
    found = keep(needle_samples(one, prompts=50)).depths[one.cell]
    assert [d.prompts for d in found] == [10] * DEPTHS
    assert [d.score for d in found] == [0, 0, 5, 10, 10]
    assert [d.kept for d in found] == [0, 0, 5, 10, 10]


def test_keep_puts_the_last_depth_into_the_last_part():
    assert keep([sample(key_depth=1.0)]).depths["c"][-1].prompts == 1


def test_keep_counts_no_score_without_its_scorer():
    (*_, last) = keep([sample(key_depth=0.99, scorer=None)]).depths["c"]
    assert (last.prompts, last.scored) == (1, 0)


def test_keep_shows_disagreement_first_and_whole_prompts():
    agreed = [sample(cell=cell, id="t@1/1/0/0") for cell in "ab"]
    scores = {"a": 0.0, "b": 1.0}
    split = [sample(cell=cell, id="t@1/1/0/1", prompt_sha256="1" * 64, score=scores[cell]) for cell in "ab"]
    shown = [(s.id[-1], s.cell) for s in keep([*agreed, *split]).shown]
    assert shown == [("1", "a"), ("1", "b"), ("0", "a"), ("0", "b")]


def test_keep_takes_from_every_task_in_turn_up_to_its_limit():
    many = [sample(id=f"t@1/{task}/0/{i}", prompt_sha256=f"{task}{i}") for task in range(3) for i in range(200)]
    shown = keep(many).shown
    assert len(shown) == SHOWN
    assert {task: sum(s.id.startswith(f"t@1/{task}/") for s in shown) for task in range(3)} == {0: 50, 1: 50, 2: 50}


def test_keep_cuts_long_texts_and_says_what_is_missing():
    (one,) = keep([sample(prediction="x" * 1000, answers=["y"] * 7)]).shown
    assert one.prediction.startswith("x" * CHARACTERS + "… (700 more characters, sha256 ")
    assert one.answers == ["y", "y", "y", "and 4 more"]


def test_prompts_survive_packing_as_json():
    one = record(chunks=4)
    kept = keep([*needle_samples(one), sample(kept_chunks=[], warnings=["w"])])
    assert PackedPrompts.model_validate(json.loads(json.dumps(kept.packed()))).unpacked("here") == kept


def test_page_shows_answers_and_which_chunks_were_kept(tmp_path):

    full, own = stock(), record(chunks=4)
    folder = write_with_samples(tmp_path / "a", [full, own], [*needle_samples(full), *needle_samples(own)])
    page = read_page(build([folder]))
    rows = page.tables["Prompts, one row an answer"]
    assert len(rows) == 20
    lost = next(row for row in rows if row["cell"] == "ParallelComp" and row["score (×100)"] == "0.0")
    assert (lost["answer"], lost["right answers"], lost["chunks"]) == ("99999.", "12345", "◇□■■")
    kept = rows[-1]
    assert (kept["chunks"], kept["needle at (%)"]) == ("□□■◆", "95.0")


def test_heat_map_has_its_table(tmp_path):

    own = record(chunks=4)
    page = read_page(build([write_with_samples(tmp_path / "a", [own], needle_samples(own))]))
    (row,) = page.tables["Needles by length and depth, one row a cell"]
    parts = ["0–20 %", "20–40 %", "40–60 %", "60–80 %", "80–100 %"]
    assert [row[f"score at {part}"] for part in parts] == ["0.0", "0.0", "50.0", "100.0", "100.0"]
    assert row["prompts by depth"] == "2, 2, 2, 2, 2"
    assert "Least: 0.0 at depth 0–20 % of 8K." in page.text


def test_needle_maps_that_lose_most_come_first(tmp_path):
    full, own = stock(), record(chunks=4)
    samples = [*needle_samples(full), *needle_samples(own)]
    page = read_page(build([write_with_samples(tmp_path / "a", [full, own], samples)]))
    titles = re.findall(r"<figcaption><b>((?:score|needle.{5}s chunk kept): [^<]*)", page.html)
    assert titles == [
        "score: ParallelComp, passkey",
        "needle&#39;s chunk kept: ParallelComp, passkey",
        "score: Full attention, passkey",
    ]
