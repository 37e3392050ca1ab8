"""Scores and losses of runs against each other, prompt by prompt."""

import math
import re
from dataclasses import replace

import pytest
from report.made_comparisons import answered, write
from report.made_losses import LOSSES, loss
from report.made_runs import record

from pcbench.cli import main
from pcbench.errors import ConfigError
from pcbench.report.compare.comparison import compare
from pcbench.report.compare.paired import loss_changes, score_changes
from pcbench.report.compare.runs import read_compared
from pcbench.report.compare.text import headline, tables


@pytest.fixture
def scored(tmp_path):
    """The score change of one cell between two lists of scores."""

    def make(before, after):
        runs = []
        for name, scores in (("a", before), ("b", after)):
            one = replace(record(), score=sum(scores) / len(scores), n_samples=len(scores))
            runs.append(write(tmp_path / name, [one], answered(one, scores)))
        (change,) = score_changes(read_compared(runs))
        return change

    return make


def test_score_changes_pair_prompts_and_test_right_or_wrong_by_mcnemar(scored):
    change = scored([1] * 40, [1] * 30 + [0] * 10)
    assert (change.before, change.after, change.prompts) == (1.0, 0.75, 40)
    assert change.difference == -0.25
    assert change.ci_low < -0.25 < change.ci_high < 0
    assert change.p == pytest.approx(2 / 2**10)
    assert (change.verdict, change.scorer) == ("lower", "needle@1")


def test_score_changes_of_graded_scores_have_no_p(scored):
    change = scored([0.2 + i / 100 for i in range(20)], [0.4 + i / 100 for i in range(20)])
    assert change.difference == pytest.approx(0.2)
    assert (change.p, change.verdict) == (None, "higher")


def test_score_changes_are_not_claimed_where_mcnemar_does_not_see_them(scored):
    # four of four that differ, though Tango's interval hardly holds 0
    change = scored([1] * 30, [1] * 26 + [0] * 4)
    assert change.p == pytest.approx(0.125)
    assert change.ci_high < 0
    assert change.verdict == "no significant difference"


@pytest.mark.parametrize("scores", [[1] * 3, [1] * 5])
def test_score_changes_of_few_prompts_cannot_tell(scored, scores):
    change = scored(scores, [0] * len(scores))
    assert (change.p, change.verdict) == (2 * 0.5 ** len(scores), "cannot tell, needs n ≥ 6")


def test_score_changes_are_not_certain_where_no_prompt_differs(scored):
    change = scored([1, 0, 1, 1, 0, 1], [1, 0, 1, 1, 0, 1])
    assert (change.difference, change.p, change.verdict) == (0.0, 1.0, "no significant difference")
    assert (-change.ci_low, change.ci_high) == pytest.approx((0.39, 0.39), abs=0.005)


def test_score_changes_count_only_prompts_of_both(scored):
    change = scored([1] * 5, [1] * 5 + [0] * 5)
    assert (change.prompts, change.difference, change.after) == (5, 0.0, 0.5)


def test_score_changes_without_samples_cannot_tell(tmp_path):
    one = record()
    runs = [write(tmp_path / name, [one]) for name in "ab"]
    (change,) = score_changes(read_compared(runs))
    assert (change.difference, change.prompts, change.verdict) == (None, 0, "cannot tell, needs n ≥ 6")


def test_score_changes_put_the_worst_first(tmp_path):
    cells = [replace(record(context_tokens=n), score=1.0) for n in (1, 2, 3)]
    wrong = {1: 0, 2: 4, 3: 2}
    before = write(tmp_path / "a", cells, [s for one in cells for s in answered(one, [1] * 6)])
    after = [s for one in cells for s in answered(one, [0] * wrong[one.context_tokens] + [1] * 6)]
    found = score_changes(read_compared([before, write(tmp_path / "b", cells, after)]))
    assert [change.name.split()[-2] for change in found] == ["2", "3", "1"]


# of windows of a text: they differ by much more than two runs do
WINDOWS = [2.1, 3.4, 2.7, 3.9, 2.2, 3.0, 2.5, 3.6]


def windows(one, losses, text="a"):
    """Samples of a record; windows of equal `text` are equal."""
    made = answered(one, losses, text)
    return [replace(sample, score=None, scorer=None, nll=nll) for sample, nll in zip(made, losses, strict=True)]


@pytest.fixture
def read(tmp_path):
    """Folders of runs whose cells have these losses a window, a list a cell."""

    def make(*runs):
        folders = []
        for name, cells in zip("abc", runs, strict=False):
            ones = [record(**LOSSES, context_tokens=n, **loss(sum(x) / len(x))) for n, x in enumerate(cells, 1)]
            samples = [sample for one, losses in zip(ones, cells, strict=True) for sample in windows(one, losses)]
            folders.append(write(tmp_path / name, ones, samples))
        return folders

    return make


def more(by, windows=WINDOWS):
    """A little of it is noise."""
    return [nll + by + (i % 3 - 1) / 1000 for i, nll in enumerate(windows)]


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (more(0.1), "higher"),
        (more(-0.1), "lower"),
        (more(0), "no significant difference"),
        (WINDOWS, "no significant difference"),
        (more(0.1)[:5], "cannot tell, needs n ≥ 6"),
    ],
)
def test_losses_are_compared_on_the_same_windows(read, after, verdict):
    (change,) = loss_changes(read_compared(read([WINDOWS], [after])))
    both = list(zip(after, WINDOWS, strict=False))
    assert change.difference == pytest.approx(sum(a - b for a, b in both) / len(both))
    assert (change.prompts, change.verdict) == (len(both), verdict)
    # by far narrower than what windows differ by
    assert change.ci_high - change.ci_low < 0.01
    assert (change.before, change.after) == (pytest.approx(sum(WINDOWS) / 8), pytest.approx(sum(after) / len(after)))
    assert score_changes(read_compared(read([WINDOWS], [after]))) == []


@pytest.mark.parametrize(
    ("by", "percent", "code"), [(0.06, "5", 3), (0.04, "5", 0), (0.1, "10", 3), (0.09, "10", 0), (-0.5, "5", 0)]
)
def test_a_gate_is_of_perplexity_in_percent(read, by, percent, code):
    assert (math.exp(by) > 1 + float(percent) / 100) == (code == 3)
    found = compare(read([WINDOWS], [more(by)]), fail_on_score=float(percent) / 100)
    assert (found.exit_code(), found.unjudged()) == (code, [])
    said = "regression" if code else "higher" if by > 0 else "lower"
    assert headline(found).endswith(f"; losses, margin {percent} % of perplexity: 1 {said}")


def test_a_gate_does_not_pass_losses_that_cannot_be_told(read, capsys):
    (few, noisy) = WINDOWS[:5], [nll + 0.2 * (-1) ** i for i, nll in enumerate(more(0.1))]
    for before, after, said in [
        (
            few,
            more(0.1, few),
            "at least one loss of b that can be judged, got 1: cannot tell, needs n ≥ 6; read more w",
        ),
        (WINDOWS, noisy, "passkey, 1 tokens +0.0999 nats of 8 windows: no significant difference"),
    ]:
        with pytest.raises(SystemExit) as ended:
            main(["compare", *map(str, read([before], [after])), "--fail-on-score", "5"])
        assert ended.value.code == 1
        assert said.replace("passkey", LOSSES["workload"]) in capsys.readouterr().err


def test_losses_stand_in_a_table_of_their_own(read):
    found = {table.title: table for table in tables(compare(read([WINDOWS], [more(0.1)])))}
    ((cell, run, before, after, said),) = found["Losses, nats a token"].rows
    assert (cell, run, before) == ("ParallelComp on documentation, last 256, 1 tokens", "b", "2.9250")
    assert float(after) == pytest.approx(3.025, abs=1e-3)
    assert re.fullmatch(r"\+0\.\d{4} \[\+0\.\d{4}, \+0\.\d{4}\], 8 windows: higher", said)
    assert "Scores" not in found


def test_losses_of_other_windows_or_another_text_are_refused(read, tmp_path):
    one = record(**LOSSES, context_tokens=1, **loss(2.0))
    runs = [read([WINDOWS])[0], write(tmp_path / "other", [one], windows(one, WINDOWS, "b"))]
    with pytest.raises(
        ConfigError, match="the same prompts of ParallelComp on documentation, last 256, 1 tokens, 0, got"
    ):
        compare(runs)
    runs[1] = write(tmp_path / "third", [replace(one, task="documentation@0123abcd/64+256 every 128")])
    with pytest.raises(ConfigError, match=r"the same task and version of .* every 256 in a and .* every 128 in third"):
        compare(runs)
