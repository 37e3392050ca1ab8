"""The gate, its exit codes and the command line."""

import json
from dataclasses import replace

import pytest
from report.made_comparisons import answered, pair, quiet_pair, write
from report.made_runs import record, stock

from pcbench.cli import main
from pcbench.errors import ConfigError
from pcbench.report.compare.comparison import compare, read_margin, read_points


@pytest.fixture
def command(tmp_path, capsys):
    """Writes runs, compares them with these flags; returns exit code, stdout and stderr."""

    def run(*runs, flags=()):
        folders = [str(write(tmp_path / f"run{i}", records)) for i, records in enumerate(runs)]
        with pytest.raises(SystemExit) as ended:
            main(["compare", *folders, *flags])
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


GATE = ["--fail-on", "5%"]


LENGTHS = [1024 * n for n in range(1, 11)]


def ten(slow=1.0, repeats=5):
    """Ten pairs, the last of them `slow` times as long."""
    return [r for n in LENGTHS for r in quiet_pair(slow if n == LENGTHS[-1] else 1.0, repeats, context_tokens=n)]


def ending(status):
    return [stock(context_tokens=1, status=status, reason=None if status == "ok" else "why")]


@pytest.mark.parametrize(
    ("factor", "after", "flags", "code"),
    [
        (1.10, "ok", GATE, 3),
        (1.10, "ok", [], 0),
        (1.10, "ok", ["--fail-on", "20%"], 0),
        (1.04, "ok", GATE, 0),
        (0.50, "ok", GATE, 0),
        (1.00, "parity_failed", GATE, 3),
        (1.00, "error", GATE, 1),
        (1.00, "timeout", GATE, 1),
        (1.10, "error", GATE, 3),
        (1.00, "error", [], 0),
        (1.00, "out_of_memory", GATE, 1),
        (1.00, "unsupported", GATE, 1),
    ],
)
def test_compare_exits_by_what_the_gate_found(command, factor, after, flags, code):
    ended, printed, _ = command(quiet_pair() + ending("ok"), quiet_pair(factor) + ending(after), flags=flags)
    assert ended == code, printed


def test_compare_does_not_fail_for_a_cell_that_was_lost_before(command):
    assert command(quiet_pair() + ending("error"), quiet_pair() + ending("error"), flags=GATE)[0] == 0


@pytest.mark.parametrize("unfinished", [False, True])
def test_compare_fails_for_a_cell_that_has_no_record_any_more(tmp_path, unfinished):
    before = quiet_pair() + ending("ok")
    manifest = {"cells": [r.cell for r in before]} if unfinished else {}
    found = compare([write(tmp_path / "a", before), write(tmp_path / "b", quiet_pair(), **manifest)], 0.05)
    ends = {"not finished" if unfinished else "not in the run"}
    assert (found.exit_code(), found.lost()) == (1, {before[-1].cell: ends})


def test_compare_does_not_fail_for_a_new_cell(command):
    assert command(quiet_pair(), quiet_pair() + ending("error"), flags=GATE)[0] == 0


@pytest.mark.parametrize(("flags", "code"), [(GATE, 1), ([], 0)])
def test_compare_fails_a_gate_that_could_judge_nothing(command, flags, code):
    ended, printed, error = command(quiet_pair(repeats=3), quiet_pair(3.0, repeats=3), flags=flags)
    assert ended == code
    assert printed.splitlines()[-1] == "1 ratio against run0, margin 5 %: 1 cannot tell"
    assert error.splitlines() == code * [
        "compare: at least one ratio of run1 that can be judged, got 1 that cannot tell; measure with repeats = 4"
    ]


def test_compare_says_what_would_judge_where_repeats_are_not_what_is_missing(command):
    start = "compare: at least one ratio of run1 that can be judged, got "
    noisy = pair([100 * x for x in (0.8, 1.2, 0.9, 1.3, 0.7, 1.1)], [150.0] * 6)
    assert command(noisy, noisy, flags=GATE)[::2] == (
        1, f"{start}1 that cannot tell; measure both again, with more repeats or on a quieter machine\n"
    )  # fmt: skip
    untimed = [replace(record(), samples_ms=None, ms_p50=None, speedup_vs_full=None)]
    assert command(untimed, untimed, flags=GATE)[::2] == (
        1, f"{start}none; compare runs that timed the same cells beside a baseline\n"
    )  # fmt: skip


def test_compare_wants_a_judged_ratio_of_every_run(command):
    ended, _, error = command(quiet_pair(), quiet_pair(), quiet_pair(3.0, repeats=1), flags=GATE)
    assert ended == 1
    assert error.startswith("compare: at least one ratio of run2 that can be judged, got 1 that cannot tell; measure")


def test_compare_fails_a_gate_that_may_have_passed_a_regression(command):
    """Ten ratios of five repeats, one of them 7 % slower: beyond the margin alone, not to be told jointly."""
    ended, printed, error = command(ten(), ten(1.07), flags=GATE)
    assert printed.splitlines()[-1] == "10 ratios against run0, margin 5 %: 1 cannot tell, 9 same"
    assert (ended, error.splitlines()) == (1, [
        "compare: every ratio of run1 judged, got cannot tell for ParallelComp on passkey, 10,240 tokens "
        "speedup_vs_full ×1.070: worse by 5 % for this ratio alone; about 7 repeats would tell"
    ])  # fmt: skip
    assert command(ten(), ten(1.07))[::2] == (0, "")
    assert command(ten(), ten(1.07), flags=["--fail-on", "10%"])[::2] == (0, "")


def test_compare_fails_a_gate_whose_ratio_is_missing(command):
    full, ours = quiet_pair(context_tokens=1)
    lost = [full, replace(ours, speedup_vs_full=None, baseline=None)]
    ended, _, error = command([*ten(), full, ours], ten() + lost, flags=GATE)
    assert (ended, error) == (1, (
        "compare: every ratio of run1 judged, got cannot tell for ParallelComp on passkey, 1 tokens speedup_vs_full: "
        "no speedup_vs_full against full/torch in run1\n"
    ))  # fmt: skip


def test_compare_says_the_whole_rule_in_its_help(capsys):
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in ("for all ratios together", "alone lies beyond", "own 95% interval only", "ratio or a cell is lost"):
        assert words in said
    assert "For whole suites take 10%: a run that lies elsewhere as a whole is in no interval" in said


def test_compare_names_three_ratios_that_may_be_regressions_and_counts_the_others(command):
    def slow(factor):
        return [r for n in LENGTHS[:5] for r in quiet_pair(factor, 3, context_tokens=n)] + ten()[10:]

    ended, _, error = command(slow(1.0), slow(1.5), flags=GATE)
    assert ended == 1
    assert (error.count("×1.5"), error.endswith("; and 2 more\n")) == (3, True)


@pytest.mark.parametrize("repeats", [4, 5])
def test_compare_finds_a_slowdown_of_three_times_among_ten_ratios_of_few_repeats(command, repeats):
    ended, printed, _ = command(ten(repeats=repeats), ten(3.0, repeats), flags=GATE)
    assert ended == 3
    assert printed.splitlines()[-1] == "10 ratios against run0, margin 5 %: 1 regression, 9 same"


def test_compare_never_passes_a_slowdown_of_three_times_of_three_repeats(command):
    ended, _, error = command(ten(repeats=3), ten(3.0, 3), flags=GATE)
    assert ended == 1
    assert error.endswith("got 10 that cannot tell; measure with repeats = 6\n")


def test_compare_prints_json_of_its_schema(command):
    ended, printed, _ = command(quiet_pair(), quiet_pair(1.2), flags=["--json", *GATE])
    data = json.loads(printed)
    assert ended == 3
    assert list(data) == [
        *(
            "schema",
            "runs",
            "margin",
            "gated",
            "score_margin",
            "environment",
            "endings",
            "times",
            "milliseconds",
            "scores",
            "losses",
            "memory",
        )
    ]
    assert (data["schema"], data["runs"], data["margin"], data["gated"]) == (1, ["run0", "run1"], 0.05, True)
    (change,) = data["times"]
    assert change["verdict"] == "regression"
    assert change["time_ratio"] == pytest.approx(1.2, rel=0.01)
    assert data["milliseconds"]["ParallelComp on passkey, 8,192 tokens"] == pytest.approx([100, 120], rel=0.01)


def test_compare_writes_markdown_beside_what_it_prints(command, tmp_path):
    path = tmp_path / "comment.md"
    _, printed, _ = command(quiet_pair(), quiet_pair(1.2), flags=["--markdown", str(path)])
    assert path.read_text(encoding="utf-8").startswith("### pcbench: 1 ratio against run0, margin 5 %: 1 regression")
    assert "regression" in printed


def test_compare_names_a_markdown_file_that_cannot_be_written(command, tmp_path):
    ended, printed, error = command(quiet_pair(), quiet_pair(), flags=["--markdown", str(tmp_path / "no" / "c.md")])
    assert (ended, printed) == (2, "")
    assert error.startswith("--markdown: a file that can be written, got ")
    assert len(error.strip().splitlines()) == 1


def test_compare_refuses_in_one_line(command):
    one = record()
    ended, printed, error = command([one], [replace(one, scorer="needle@2")])
    assert (ended, printed) == (2, "")
    assert error.strip() == (
        "compare: the same scorer of ParallelComp on passkey, 8,192 tokens, got needle@1 in run0 and needle@2 in run1; "
        "compare runs of one suite and data"
    )


@pytest.fixture
def scored(tmp_path, capsys):
    """Compares two runs whose cells have these scores; returns exit code, last line and stderr."""

    def run(*runs, flags=("--fail-on-score", "5")):
        folders = []
        for name, cells in zip("ab", runs, strict=True):
            ones = [replace(record(context_tokens=n), samples_ms=None, ms_p50=None, score=s and sum(s) / len(s))
                    for n, s in enumerate(cells, 1)]  # fmt: skip
            samples = [x for one, s in zip(ones, cells, strict=True) if s for x in answered(one, s)]
            folders.append(str(write(tmp_path / name, ones, samples)))
        with pytest.raises(SystemExit) as ended:
            main(["compare", *folders, *flags])
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out.splitlines()[-1], printed.err

    return run


ALL, FEW_LOST, LOST = [1] * 40, [1] * 37 + [0] * 3, [1] * 30 + [0] * 10


@pytest.mark.parametrize(
    ("after", "points", "code"),
    [
        (LOST, "5", 3),
        (LOST, "25", 3),
        (LOST, "25.5", 0),
        (FEW_LOST, "5", 1),
        (FEW_LOST, "7.5", 1),
        (FEW_LOST, "8", 0),
        (ALL, "5", 0),
    ],
)
def test_compare_exits_by_what_the_gate_of_scores_found(scored, after, points, code):
    ended, last, error = scored([ALL], [after], flags=["--fail-on-score", points])
    assert (ended, error == "") == (code, code != 1)
    assert f"; scores, margin {points} points: 1 " in last
    if code == 1:
        assert error == (
            "compare: every score of b judged, got cannot tell for ParallelComp on passkey, 1 tokens "
            "-7.5 points of 40 prompts: no significant difference\n"
        )


def test_compare_gates_no_score_unless_it_is_asked_to(scored):
    assert scored([ALL], [LOST], flags=())[0] == 0
    assert scored([ALL], [LOST], flags=["--fail-on-score", "5", "--json"])[0] == 3


def test_compare_does_not_pass_scores_of_five_prompts(scored):
    for after in ([0] * 5, [1] * 5):
        assert scored([[1] * 5], [after])[::2] == (
            1, "compare: at least one score of b that can be judged, got 1: cannot tell, needs n ≥ 6; "
            "answer more prompts\n"
        )  # fmt: skip


def test_compare_does_not_pass_a_score_that_is_missing(scored):
    assert scored([ALL, ALL], [ALL, None])[::2] == (
        1, "compare: every score of b judged, got cannot tell for ParallelComp on passkey, 2 tokens: no score in b\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kept", "average", "said"),
    [(0, 0, "got 2: cannot tell, needs n ≥ 6; compare runs with their samples"),
     (6, 1, "passkey, 1 tokens 100.0, then 0.0, with 6 prompts kept by both runs"),
     (40, 0, "average, 1 tokens 100.0, then 0.0, with 0 prompts kept by both runs")],
)  # fmt: skip
def test_compare_does_not_pass_a_drop_whose_prompts_are_not_there(tmp_path, capsys, kept, average, said):
    """Of a run that lost samples, and of an average, which has none of its own."""
    one, mean = (replace(record(workload=name, context_tokens=1), score=1.0) for name in ("passkey", "average"))
    dropped = replace(one, score=float(kept == 40))
    before = write(tmp_path / "a", [one, mean], answered(one, ALL))
    after = write(tmp_path / "b", [dropped, replace(mean, score=float(average))], answered(one, ALL[:kept]))
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(before), str(after), "--fail-on-score", "5"])
    error = capsys.readouterr().err
    assert ended.value.code == 1
    assert said in error


def test_compare_passes_an_average_that_stays(tmp_path):
    one, mean = (replace(record(workload=name), score=1.0) for name in ("passkey", "average"))
    folders = [write(tmp_path / name, [one, mean], answered(one, ALL)) for name in "ab"]
    assert compare(folders, fail_on_score=0.05).exit_code() == 0


def test_compare_does_not_pass_runs_without_scores(scored):
    assert scored([None], [None])[2].startswith(
        "compare: at least one score or loss of b that can be judged, got none; "
    )


def test_compare_wants_a_lower_score_to_be_significant_for_all_scores_together(scored):
    """Seven of seven lost prompts: p is 0.016, and 0.05 over four scores is less."""
    seven = [1] * 33 + [0] * 7
    assert scored([ALL], [seven])[0] == 3
    ended, _, error = scored([ALL] * 4, [seven, *[ALL] * 3])
    assert ended == 1
    assert error.endswith("-17.5 points of 40 prompts: lower, but not for all scores together\n")


@pytest.mark.parametrize("text", ["", "x", "0", "-5", "101", "nan", "5%"])
def test_read_points_refuses_what_are_no_points(text):
    with pytest.raises(ConfigError, match="--fail-on-score: points above 0 and up to 100, got"):
        read_points(text)


@pytest.mark.parametrize("text", ["5", "five%", "0%", "-5%", "101%", "5%%", "nan%", ""])
def test_read_margin_refuses_what_is_no_percentage(text):
    with pytest.raises(ConfigError, match="--fail-on: a percentage above 0% and up to 100%, got"):
        read_margin(text)


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.5%", 0.005), ("100%", 1.0), (" 7.5 %", 0.075)])
def test_read_margin_reads_a_percentage(text, share):
    assert read_margin(text) == pytest.approx(share)


def test_compare_shows_scores_of_runs_that_were_not_timed(tmp_path):
    one = replace(record(), samples_ms=None, ms_p50=None)
    folders = [write(tmp_path / name, [one], answered(one, [1] * 5)) for name in "ab"]
    found = compare(folders)
    assert (found.times, found.milliseconds) == ([], {})
    assert [change.verdict for change in found.scores] == ["cannot tell, needs n ≥ 6"]
