"""Records from samples made by hand: what is scored, subtracted, averaged and held against published scores."""

from dataclasses import replace

import pytest
from harness_suite import ACCURACY

from pcbench.differences import average_difference, paired_difference
from pcbench.harness.kinds.accuracy import summary as accuracy_summary
from pcbench.harness.kinds.accuracy.outcomes import Outcome, joined
from pcbench.harness.kinds.accuracy.summary import average_records, records_by_words, summarise_accuracy
from pcbench.harness.progress import describe
from pcbench.harness.runner import Options, plan
from pcbench.statistics import score_interval, wilson_interval
from pcbench.tasks.scorecards.published import Published
from pcbench.types import Sample

FULL = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
OURS = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]


@pytest.fixture
def planned(tmp_path):
    """Four cells: two tasks by full attention and by chunks; a model whose answers count."""
    path = tmp_path / "small.toml"
    path.write_text(ACCURACY)
    found = plan(Options(suite=str(path), device="cpu"))
    found.kind.spec = replace(found.kind.spec, trained=True)
    return found


def sample(cell, index, score, **changes):
    same = dict(task="t", id=str(index), prediction="p", answers=["a"], scorer="needle@1", prompt_sha256=str(index))
    return Sample(**(same | dict(cell=cell.key, index=index, score=score, tokens=100) | changes))


def outcome(prepared, scores, **changes):
    return Outcome(samples=[sample(prepared.cell, i, x) for i, x in enumerate(scores)], **changes)


def summarised(planned, cells, outcomes, note=lambda _: None):
    return summarise_accuracy(cells, outcomes, planned.kind.spec, {"run": "r"}, "again", note)


def test_scores_are_subtracted_prompt_by_prompt(planned):
    cells = planned.cells[:2]
    full, ours = summarised(planned, cells, [outcome(cells[0], FULL), outcome(cells[1], OURS)])
    assert (full.score, full.score_ci_low, full.score_ci_high) == (6 / 7, *wilson_interval(6, 7))
    assert (full.score_vs_full, full.n_samples) == (None, 7)
    found = paired_difference(OURS, FULL)
    interval = ours.score_vs_full_ci_low, ours.score_vs_full_ci_high
    assert (ours.score_vs_full, *interval, ours.score_vs_full_p, ours.score_vs_full_pairs) == found[:5]
    assert found.p == 0.125
    assert describe(ours).endswith("-57.1 [-84.2, -1.5] against full attention: no significant difference")


def test_five_prompts_cannot_tell_whatever_came_out(planned):
    cells = planned.cells[:2]
    for right in ([0.0] * 5, [1.0] * 5):
        _, ours = summarised(planned, cells, [outcome(cells[0], [1.0] * 5), outcome(cells[1], right)])
        assert describe(ours).endswith("against full attention: cannot tell, needs n ≥ 6")


def test_only_shared_prompts_are_subtracted(planned):
    cells = planned.cells[:2]
    other = outcome(cells[1], OURS)
    other.samples[1].id = "another"
    _, ours = summarised(planned, cells, [outcome(cells[0], FULL), other])
    assert ours.n_samples == 7
    assert ours.score_vs_full == pytest.approx(sum(OURS[2:] + OURS[:1]) / 6 - sum(FULL[2:] + FULL[:1]) / 6)


def test_a_prompt_that_one_method_read_cut_is_the_same_prompt(planned):
    cells = planned.cells[:2]
    cut = outcome(cells[0], FULL)
    for sample in cut.samples:
        sample.prompt_sha256 += " cut"
    _, ours = summarised(planned, cells, [cut, outcome(cells[1], OURS)])
    assert ours.score_vs_full == paired_difference(OURS, FULL).mean


def test_nothing_is_subtracted_from_full_attention_that_did_not_end(planned):
    cells = planned.cells[:2]
    lost = Outcome(status="out_of_memory", reason="9 GiB")
    full, ours = summarised(planned, cells, [lost, outcome(cells[1], OURS)])
    assert (full.status, full.score) == ("out_of_memory", None)
    assert (ours.score, ours.score_vs_full) == (2 / 7, None)


def test_a_record_is_of_its_largest_prompt_and_holds_every_warning(planned):
    cell = planned.cells[1].cell
    sizes = [
        dict(chunks=2, chunk_tokens=50, kv_bytes=8, kv_bytes_prompt=5),
        dict(chunks=3, chunk_tokens=40, kv_bytes=9, kv_bytes_prompt=6, warnings=["w"]),
    ]
    samples = [sample(cell, i, 1.0, kept_tokens=i, **x) for i, x in enumerate(sizes)]
    (record,) = summarised(planned, planned.cells[1:2], [Outcome(samples=samples)])
    assert (record.chunks, record.chunk_tokens, record.kv_bytes, record.kept_tokens) == (3, 50, 9, 1)
    assert (record.kv_bytes_prompt, record.compared_kv_bytes) == (6, 6)
    assert record.warnings == ["w"]


def test_warnings_that_differ_in_their_numbers_alone_are_counted(planned):
    cell = planned.cells[1].cell
    warned = [[f"its middle was cut out ({n} of 900 tokens kept)", "no chat template"] for n in range(3)] + [
        ["odd"],
        [],
    ]
    samples = [sample(cell, i, 1.0, warnings=warnings) for i, warnings in enumerate(warned)]
    (record,) = summarised(planned, planned.cells[1:2], [Outcome(samples=samples)])
    assert record.warnings == [
        "3 of 5 prompts, the first: its middle was cut out (0 of 900 tokens kept)",
        "no chat template",
        "odd",
    ]


def test_joined_is_as_if_one_rank_had_taken_all(planned):
    whole = outcome(planned.cells[1], OURS)
    parts = [Outcome(samples=whole.samples[i::3]) for i in range(3)]
    assert joined(parts) == joined(parts[::-1]) == whole


def test_joined_ends_where_the_first_part_ended():
    parts = [Outcome(), Outcome(status="error", reason="late", ended_at=5), Outcome(status="error", reason="early")]
    assert joined(parts).reason == "early"


def averages(planned, scores, tasks=("passkey", "kv_retrieval")):
    """Averages over cells with these scores, in the order of the plan; None has no samples."""
    samples = [x for p, s in zip(planned.cells, scores, strict=True) if s for x in outcome(p, s).samples]
    records = {}
    for first in (0, 2):
        cells = planned.cells[first : first + 2]
        made = [outcome(p, s) if s else Outcome(status="error", reason="odd")
                for p, s in zip(cells, scores[first : first + 2], strict=True)]  # fmt: skip
        records |= {r.cell: r for r in summarised(planned, cells, made)}
    return average_records(planned.cells, records, samples, tasks, {"run": "r"}, "again", lambda _: None)


HALVES = [0.5, 0.25, 0.5, 0.25, 0.5, 0.4]


def test_an_average_weighs_datasets_alike_and_is_subtracted_in_pairs(planned):
    full, ours = averages(planned, [FULL, OURS, [1.0] * 6, HALVES])
    assert (full.workload, full.score, full.n_samples) == ("average", pytest.approx((6 / 7 + 1) / 2), 13)
    assert ours.score == pytest.approx((2 / 7 + 0.4) / 2)
    assert ours.score_ci_low < ours.score < ours.score_ci_high
    found = average_difference({"passkey": (OURS, FULL), "kv_retrieval": (HALVES, [1.0] * 6)})
    assert (ours.score_vs_full, ours.score_vs_full_ci_low, ours.score_vs_full_ci_high) == pytest.approx(found[:3])
    assert (ours.score_vs_full_p, ours.score_vs_full_pairs, full.score_vs_full) == (None, 6, None)
    assert ours.task == "average of passkey, kv_retrieval"
    assert ours.scorer == "needle@1, infinitebench-2024-06@1"
    assert describe(ours).endswith("against full attention: lower")
    assert ours.cell not in {p.cell.key for p in planned.cells}


def test_an_average_of_a_part_names_it(planned):
    names = ("passkey", "kv_retrieval", "math_find")
    full, ours = averages(planned, [FULL, OURS, FULL, OURS], names)
    assert full.workload == ours.workload == "average of passkey, kv_retrieval"
    assert full.cell != averages(planned, [FULL, OURS, FULL, OURS])[0].cell


def test_an_average_needs_two_datasets(planned):
    (full,) = averages(planned, [FULL, OURS, FULL, None])
    assert full.is_full
    assert averages(planned, [FULL, OURS, None, None]) == []
    assert averages(planned, [FULL, OURS, FULL, OURS], ("passkey",)) == []


def test_scores_by_words_are_of_longbench_es_buckets_and_subtracted_in_pairs(planned):
    words = [0, 3999, 4000, 7999, 8000, 20000, 1]
    cells = planned.cells[:2]
    samples = [
        sample(p.cell, i, x, words=n)
        for p, scores in zip(cells, (FULL, OURS), strict=True)
        for i, (x, n) in enumerate(zip(scores, words, strict=True))
    ]
    whole = {r.cell: r for r in summarised(planned, cells, [outcome(p, FULL) for p in cells])}
    found = records_by_words(cells, whole, samples, planned.kind.spec, {"run": "r"}, "again")
    name = cells[0].cell.workload
    assert [r.workload for r in found] == [f"{name}, {b} words" for b in ("0-4k", "4-8k", "8k+")] * 2
    assert [r.n_samples for r in found] == [3, 2, 2] * 2
    ours = found[3]
    taken = [i for i, n in enumerate(words) if n < 4000]
    assert ours.score == pytest.approx(sum(OURS[i] for i in taken) / 3)
    assert ours.score_vs_full == pytest.approx(sum(OURS[i] - FULL[i] for i in taken) / 3)
    assert found[0].score_vs_full is None
    assert len({r.cell for r in found} | {*whole}) == 8


def test_records_without_a_length_have_no_buckets(planned):
    cells = planned.cells[:1]
    whole = {cells[0].cell.key: summarised(planned, cells, [outcome(cells[0], FULL)])[0]}
    assert records_by_words(cells, whole, outcome(cells[0], FULL).samples, planned.kind.spec, {}, "again") == []


def test_few_graded_prompts_leave_an_average_without_interval(planned):
    full, ours = averages(planned, [FULL, OURS, FULL[:4], HALVES[:4]])
    assert (full.score_ci_low is None, ours.score_ci_low, ours.score_vs_full_ci_low) == (False, None, None)
    assert ours.score_vs_full is not None
    assert describe(ours).endswith("against full attention: cannot tell, needs n ≥ 6")


def test_an_average_says_which_datasets_its_difference_leaves_out(planned):
    samples = [x for p, s in zip(planned.cells, [FULL, OURS, FULL, OURS], strict=True) for x in outcome(p, s).samples]
    for one in samples:
        if one.cell == planned.cells[2].cell.key:
            one.id += " of others"
    records = {r.cell: r for p in planned.cells for r in summarised(planned, [p], [outcome(p, FULL)])}
    tasks = ("passkey", "kv_retrieval")
    _, ours = average_records(planned.cells, records, samples, tasks, {"run": "r"}, "again", lambda _: None)
    assert ours.warnings == ["minus full attention: over 1 of 2 datasets, without kv_retrieval"]


def test_only_full_is_what_scores_are_subtracted_from(planned):
    """A later method with backend torch is no baseline, wherever it stands, and has a difference of its own."""
    toy = replace(planned.cells[0], cell=replace(planned.cells[0].cell, method="toy"), where="toy")
    cells = [toy, *planned.cells[:2]]
    found = summarised(planned, cells, [outcome(p, s) for p, s in zip(cells, (OURS, FULL, FULL), strict=True)])
    assert [r.score_vs_full for r in found] == [pytest.approx(-4 / 7), None, 0.0]
    other = replace(planned.cells[2], where="toy", cell=replace(planned.cells[2].cell, method="toy"))
    every = [toy, other, *planned.cells]
    samples = [x for p in every for x in outcome(p, OURS if p.where == "toy" else FULL).samples]
    records = {r.cell: r for p in every for r in summarised(planned, [p], [outcome(p, FULL)])}
    tasks = ("passkey", "kv_retrieval")
    averaged = average_records(every, records, samples, tasks, {"run": "r"}, "again", lambda _: None)
    assert [(r.method, r.score_vs_full) for r in averaged] == [
        ("toy", pytest.approx(-4 / 7)), ("full", None), ("parallel_comp", 0.0)
    ]  # fmt: skip


def test_full_attention_far_from_published_is_warned_of(planned, monkeypatch):
    cells = planned.cells[:2]
    monkeypatch.setattr(accuracy_summary, "published_score", lambda facts: Published(44.93, "a table"))
    full, ours = summarised(planned, cells, [outcome(cells[0], FULL), outcome(cells[1], OURS)])
    assert ours.warnings == []
    assert full.warnings == [
        "85.71, published 44.93 (a table): +40.78; look at chat template, stop tokens and truncation"
    ]


def test_full_attention_near_to_published_is_only_said(planned, monkeypatch):
    cells, notes = planned.cells[:2], []
    monkeypatch.setattr(accuracy_summary, "published_score", lambda facts: Published(84.0, "a table"))
    full, _ = summarised(planned, cells, [outcome(cells[0], FULL), outcome(cells[1], OURS)], notes.append)
    assert full.warnings == []
    assert notes == ["full/torch @ passkey: 85.71, published 84.00 (a table): +1.71"]


def test_scores_between_0_and_1_have_a_bootstrap_interval(planned):
    (record,) = summarised(planned, planned.cells[1:2], [outcome(planned.cells[1], HALVES)])
    assert (record.score, record.score_ci_low, record.score_ci_high) == score_interval(HALVES)
