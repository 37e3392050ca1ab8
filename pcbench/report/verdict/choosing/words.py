"""The answer to which method to use, as sentences and as cells of a table."""

from collections.abc import Sequence
from itertools import combinations

from pcbench.differences import pairs_that_tell
from pcbench.report.reading.results import Results
from pcbench.report.verdict.changes import speed_claim
from pcbench.report.verdict.choosing.accuracies import can_compare
from pcbench.report.verdict.choosing.asked import amount
from pcbench.report.verdict.choosing.candidates import Candidate, Setting
from pcbench.report.verdict.losses import nats_span
from pcbench.report.wording import counted, number, percent, signed, spread

__all__ = ["answer", "loss_text", "reading", "remarks", "score_text", "speed_text"]

# names that a sentence and a cell of a table say
SAID, SAID_IN_CELL = 4, 2


def answer(setting: Setting) -> str:
    """One or two sentences: what fits, and what is known of how well it answers."""
    return f"{_memory(setting)} {_accuracy(setting)}"


def _memory(setting: Setting) -> str:
    total, limit, at = counted(len(setting.candidates), "method"), setting.asked.memory, f"{setting.context:,} tokens"
    measured = [c for c in setting.candidates if c.need.high is not None]
    if limit is None:
        said = f"Memory was measured for {len(measured)} of {total} at {at}."
        return f"{said} {_least(measured)}" if measured else said
    fits, unknown, not_ = (setting.of_fit(fit) for fit in ("fits", "cannot tell", "does not fit"))
    where = f"{amount(limit)} at {at}"
    said = f"{len(fits)} of {total} {_verb(fits, 'fit')} in {where}: {_listed(fits)}." if fits else ""
    said = said or f"None of {total} is shown to fit in {where}."
    said += f" {len(not_)} {_verb(not_, 'do')} not fit." if not_ else ""
    return said + (f" For {len(unknown)} the records cannot tell." if unknown else "")


def _least(measured: Sequence[Candidate]) -> str:
    """The one that takes the least; several where passes do not tell them apart."""
    top = min(c.need.high or 0 for c in measured)
    least = sorted((c for c in measured if c.need.low <= top), key=lambda c: c.need.high or 0)
    takes = "takes" if len(least) == 1 else "take, as far as passes tell,"
    return f"The least {takes} {_listed(least)}: {least[0].need.words(None)}."


def _verb(candidates: Sequence[Candidate], plural: str) -> str:
    return {"fit": "fits", "do": "does"}[plural] if len(candidates) == 1 else plural


def _accuracy(setting: Setting) -> str:
    """Of those that fit; where none does, of all."""
    fits = setting.of_fit("fits")
    among, of_them = (fits, "of these") if fits else (setting.candidates, "of the methods")
    scored = [c for c in among if c.accuracy]
    if not setting.trained:
        return "The model's weights are random, so nothing was scored."
    if not scored:
        return f"None {of_them} was scored at this length."
    if len(scored) == 1:
        return f"Only {_name(scored[0])} was scored at this length: {score_text(scored[0])}."
    ahead = {c: [o for o in setting.better[c] if o in scored] for c in scored}
    best = [c for c in scored if not ahead[c]]
    if not any(can_compare(a, b) for a, b in combinations([c.accuracy for c in scored if c.accuracy], 2)):
        needed = f"that needs {pairs_that_tell()} prompts each"
        return f"The records cannot tell which {of_them} is the most accurate: {needed}."
    if not best:
        return "Comparisons of different runs contradict one another, so none is named."
    if len(best) == len(scored):
        return f"No difference in accuracy is shown between {_listed(scored)}."
    if len(best) == 1 and all(best[0] in others for c, others in ahead.items() if c is not best[0]):
        return f"The most accurate {of_them} is {_name(best[0])}: {score_text(best[0])}."
    behind = [c for c in scored if ahead[c]]
    return (
        f"No method is shown to be more accurate than {_listed(best, 'or')}; {_listed(behind)} "
        f"{'is' if len(behind) == 1 else 'are'} shown to be less accurate than another."
    )


def reading(setting: Setting, candidate: Candidate) -> str:
    """Which others answer better or worse, or that no difference is shown, or that nobody can tell."""
    mine = candidate.accuracy
    if mine is None:
        return "" if setting.trained else "random weights"
    others = [c for c in setting.candidates if c.accuracy and c is not candidate]
    if not others:
        return "nothing to compare"
    if not any(can_compare(mine, c.accuracy) for c in others if c.accuracy):
        return f"cannot tell, needs n ≥ {pairs_that_tell()}"
    behind = setting.better[candidate]
    ahead = [c for c in others if candidate in setting.better[c]]
    said = [f"behind {_few(behind)}"] if behind else []
    said += [f"ahead of {_few(ahead)}"] if ahead else []
    return "; ".join(said) or "no difference shown"


def score_text(candidate: Candidate) -> str:
    """`90.0 [59.6, 98.2]`."""
    if candidate.accuracy is None:
        return "not measured"
    score = candidate.accuracy.score
    return f"{percent(score.value)} {spread(score.low, score.high)}".rstrip()


def loss_text(candidate: Candidate) -> str:
    """Nats a token more than full attention, and what that allows to say."""
    if candidate.loss is None:
        return "baseline" if candidate.record.is_full else "not measured"
    return " ".join([signed(candidate.loss.mean, 4), nats_span(candidate.loss), candidate.loss.words()])


def speed_text(results: Results, candidate: Candidate) -> str:
    """The prefill's speed-up over full attention, and what its interval allows to say."""
    found = candidate.speed and candidate.speed.vs_full
    if candidate.speed is None or found is None:
        return "baseline" if candidate.record.is_full else "not measured"
    return f"{number(found.value, digits=3)}× {speed_claim(results, candidate.speed, found)}"


def remarks(setting: Setting) -> list[str]:
    """How to read the table."""
    of = ", ".join(f"{q.workload} by {q.scorer}" for q in setting.questions)
    prompts = sorted({c.accuracy.prompts for c in setting.candidates if c.accuracy})
    said = []
    if setting.questions:
        mean = "the mean of " if len(setting.questions) > 1 else ""
        each = " to ".join(f"{n:,}" for n in dict.fromkeys((prompts[0], prompts[-1])))
        said.append(
            f"Score: {mean}{of}, in points of 100 with the 95 % interval, {each} prompts each. One method is ahead of "
            "another where the intervals have nothing in common, and of full attention where the same prompts show it; "
            "the order of the rows alone says nothing."
        )
    if any(c.need.high is not None for c in setting.candidates):
        cpu = setting.candidates[0].record.device == "cpu"
        without = "the interpreter and its libraries" if cpu else "the driver's own context"
        said.append(f"Memory: weights, prefill and answer together, over all passes, without {without}.")
    return said


def _listed(candidates: Sequence[Candidate], last: str = "and") -> str:
    names = [_name(c) for c in candidates[:SAID]]
    if len(candidates) > SAID:
        return f"{', '.join(names)} {last} {len(candidates) - SAID} more"
    return f" {last} ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _few(candidates: Sequence[Candidate]) -> str:
    return ", ".join(map(_name, candidates)) if len(candidates) <= SAID_IN_CELL else f"{len(candidates)} others"


def _name(candidate: Candidate) -> str:
    """A label inside a sentence."""
    label = candidate.label
    return label[:1].lower() + label[1:] if candidate.record.is_full else label
