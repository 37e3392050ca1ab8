"""What came out of a run, as a person would say it in a sentence; what the run cannot tell is said as such."""

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from pcbench.differences import Difference, pairs_that_tell
from pcbench.report.reading.results import Entry, Results
from pcbench.report.reading.runs import Run
from pcbench.report.verdict.changes import memory_claim, memory_gain, score_change, speed_claim
from pcbench.report.verdict.losses import least_loss
from pcbench.report.verdict.subjects import mean_changes, smallest_peak, subject_of
from pcbench.report.wording import Estimate, claim, counted, number, percent

__all__ = ["sentence"]

# methods that are named one by one
NAMED = 3


def sentence(results: Results, run: Run) -> str:
    """The result of a run: speed, memory and accuracy beside full attention, losses on a text, kernels.

    Not enough repeats, passes or prompts for a claim are said, and how many cells ended without a result.
    """
    methods = results.shown_in("tradeoff", run)
    said = _beside_full(results, methods) or _by_reference(results, results.shown_in("speedup", run))
    said += _loss(results.shown_in("perplexity", run))
    said += _kernels(results, results.shown_in("kernels", run))
    where, ended = _where(run), _ended(results.of(run), run)
    if not said:
        return f"{where}this run measured nothing that stands beside full attention or a baseline. {ended}".strip()
    first, *rest = said
    return " ".join([f"{where}{first}", *(f"{text[0].upper()}{text[1:]}" for text in rest), ended]).strip()


def _where(run: Run) -> str:
    """`On AMD EPYC (2 threads), smollm2-135m in bfloat16: `."""
    environment: dict[str, Any] = run.manifest.get("environment", {})
    hardware, threads = environment.get("gpu") or environment.get("cpu"), environment.get("threads")
    on_cpu = threads and not environment.get("gpu")
    models = list(dict.fromkeys(record.model for record in run.records if record.model))
    dtypes = list(dict.fromkeys(record.dtype for record in run.records))
    place = f"{hardware} ({counted(threads, 'thread')})" if hardware and on_cpu else hardware or ""
    what = f"{models[0]} in {dtypes[0]}" if len(models) == len(dtypes) == 1 else ""
    if schemes := list(dict.fromkeys(record.quantize for record in run.records if record.quantize)):
        what += f", {' and '.join(schemes)} weights beside unquantised ones" if what else ""
    parts = [text for text in (f"on {place}" if place else "", f"with {what}" if what else "") if text]
    text = " ".join(parts)
    return f"{text[0].upper()}{text[1:]}: " if text else ""


def _beside_full(results: Results, entries: Sequence[Entry]) -> list[str]:
    """Speed, memory and accuracy of the verdict's cell; without times, accuracy and memory of all methods."""
    subject = subject_of(results, entries)
    if subject is None:
        return []
    if subject.vs_full is None:
        return [*_scores(results, entries), *_peaks(results, entries)]
    speed, memory = _speed(results, subject, subject.vs_full, entries), _memory(results, subject)
    accuracy = _accuracy(results, subject)
    if not memory and not accuracy:
        return [f"{speed}; memory and accuracy were not measured beside it."]
    return [
        f"{speed}; {memory or 'memory was not measured'}.",
        f"{accuracy or 'accuracy was not measured beside it'}.",
    ]


def _speed(results: Results, entry: Entry, found: Estimate, entries: Sequence[Entry]) -> str:
    there = [e for e in entries if e.vs_full and e.record.context_tokens == entry.record.context_tokens]
    rivals = {e.record.method for e in there}
    of = f", the fastest of {len(rivals)} methods," if len(rivals) > 1 else ""
    said = f"{_called(entry)}{of} prefilled {_tokens(entry)} {_times(found)} as fast as full attention"
    said += _doubt(speed_claim(results, entry, found))
    decode = entry.decode_vs_full
    if decode is None:
        return said
    return f"{said} and decoded {_times(decode)} as fast{_doubt(claim(decode, 1.0, 'faster', 'slower'))}"


def _doubt(claimed: str) -> str:
    """What a claim leaves open; nothing where it is one."""
    return f" ({claimed})" if claimed.startswith(("cannot tell", "no ")) else ""


def _called(entry: Entry) -> str:
    """Its label inside a sentence: what stands behind the name goes into brackets."""
    name, comma, rest = entry.series.label.partition(", ")
    return f"{name} ({rest})" if comma else name


def _tokens(entry: Entry) -> str:
    return f"{entry.record.context_tokens or 0:,} tokens"


def _times(found: Estimate) -> str:
    span = "" if found.low is None or found.high is None else f" [{_three(found.low)} to {_three(found.high)}]"
    return f"{_three(found.value)}{span} times"


def _three(value: float) -> str:
    return number(value, digits=3)


def _memory(results: Results, entry: Entry) -> str:
    gain = memory_gain(results, entry)
    return "" if gain is None else f"its peak memory was {_size(gain)}"


def _size(gain: Estimate, than: str = "") -> str:
    """`2.29 times smaller`, or larger, and what does not allow to say so."""
    ratio = f"{_three(gain.value)} times smaller" if gain.value >= 1 else f"{_three(1 / gain.value)} times larger"
    return f"{ratio}{than}{_doubt(memory_claim(gain))}"


def _accuracy(results: Results, entry: Entry) -> str:
    change, stock = score_change(results, entry), results.stock_of(entry)
    if change is None or stock is None or entry.score is None or stock.score is None:
        return ""
    scores = f"{percent(entry.score.value)} against {percent(stock.score.value)} of 100 by {entry.record.scorer}"
    return f"{_verdict(change.difference)} ({scores})"


def _verdict(change: Difference) -> str:
    """What the prompts say of the score."""
    verdict, prompts = change.verdict(), "" if change.n is None else counted(change.n, "prompt")
    if verdict == "cannot tell":
        few = change.n is not None and change.n < pairs_that_tell()
        why = f"{prompts}, at least {pairs_that_tell()} are needed" if few else "no interval in the records"
        return f"there are not enough prompts to compare accuracy: {why}" if few else f"accuracy: cannot tell, {why}"
    if verdict == "no significant difference":
        least = f", but {prompts or 'they'} cannot rule out {abs(change.low or 0.0):.0f} points lower"
        return f"its score shows no significant difference{least if (change.low or 0.0) <= -1 else ''}"
    return f"its score was significantly {verdict}, by {abs(change.mean):.1f} points over {prompts or 'the prompts'}"


def _scores(results: Results, entries: Sequence[Entry]) -> list[str]:
    """How many methods lost accuracy, and the best of them."""
    found = mean_changes(results, entries)
    if found is None:
        return []
    best, change = found.best, found.means[found.best]
    mean = "" if len(found.places) == 1 else f" in the mean over {counted(len(found.places), 'workload')}"
    verdicts = Counter(one.verdict() for one in found.means.values())
    if len(found.means) == 1:
        claimed = f"{best.label} {CLAIMS[change.verdict()]}"
    elif len(verdicts) == 1:
        claimed = f"all {len(found.means)} methods {CLAIMS[change.verdict()]}"
    else:
        counts = ", ".join(f"{n} {CLAIMS[text]}" for text, n in verdicts.items())
        claimed = f"of {len(found.means)} methods {counts}"
    ahead = [one for one in found.means.values() if one.mean == change.mean]
    if 1 < len(ahead) == len(found.means) and change.mean:
        return [f"{claimed}{mean}, each by {abs(change.mean):.1f} points."]
    if len(ahead) > 1:
        nearest = f"{'all' if len(ahead) == len(found.means) else f'the best {len(ahead)}'} scored"
    else:
        nearest = "it scored" if len(found.means) == 1 else f"the best, {best.label}, scored"
    return [f"{claimed}{mean}; {nearest} {_points(change)} full attention."]


CLAIMS = {
    "lower": "scored significantly lower than full attention",
    "higher": "scored significantly higher than full attention",
    "no significant difference": "showed no significant difference in score from full attention",
    "cannot tell": "had too few prompts to be compared with full attention",
}


def _points(change: Difference) -> str:
    if not change.mean:
        return "the same as"
    return f"{abs(change.mean):.1f} points {'above' if change.mean > 0 else 'below'}"


def _peaks(results: Results, entries: Sequence[Entry]) -> list[str]:
    """Of the longest context the method with the smallest peak."""
    found = smallest_peak(results, entries)
    if found is None:
        return []
    best, methods = found
    gain = memory_gain(results, best)
    assert gain is not None
    size = _size(gain, " than full attention's")
    if methods == 1:
        return [f"at {_tokens(best)} the peak memory of {_called(best)} was {size}."]
    return [f"of {methods} methods, {_called(best)} had the smallest peak memory at {_tokens(best)}: {size}."]


def _by_reference(results: Results, entries: Sequence[Entry]) -> list[str]:
    """What the kernels are worth, where nothing stands beside full attention."""
    fast = [e for e in entries if e.vs_reference is not None]
    if not fast:
        return []
    best = max(fast, key=lambda e: (e.record.context_tokens or 0, e.vs_reference.value if e.vs_reference else 0.0))
    assert best.vs_reference is not None
    doubt = _doubt(speed_claim(results, best, best.vs_reference))
    return [
        f"{_called(best)} prefilled {_tokens(best)} {_times(best.vs_reference)} as fast as in pure PyTorch{doubt}; "
        "nothing was timed beside full attention."
    ]


def _loss(entries: Sequence[Entry]) -> list[str]:
    found = least_loss(entries)
    if found is None:
        return []
    entry, change, rivals = found
    of = f", the least of {rivals} methods" if rivals > 1 else ""
    more = f"{number(abs(change.mean), digits=3)} nats a token {'below' if change.mean < 0 else 'above'}"
    said = f"at {_tokens(entry)} the loss of {_called(entry)} was {more} full attention's"
    return [f"{said}{of}{_doubt(change.words())}."]


def _kernels(results: Results, entries: Sequence[Entry]) -> list[str]:
    found = {e: e.vs_baseline for e in entries if e.vs_baseline is not None and e.record.backend != "reference"}
    if not found:
        return []
    said = Counter(speed_claim(results, e, estimate).partition(",")[0] for e, estimate in found.items())
    rest = ", ".join(f"{n} {text}" for text, n in sorted(said.items()) if text != "faster")
    return [
        f"{said['faster']} of {counted(len(found), 'kernel')} were faster than the fastest baseline that ran"
        f"{f' ({rest})' if rest else ''}; the median ratio is {_three(median(x.value for x in found.values()))}."
    ]


def _ended(entries: Sequence[Entry], run: Run) -> str:
    """Cells without a result, by how they ended."""
    ended = Counter(e.record.status for e in entries if e.record.status != "ok")
    if run.missing:
        ended["not measured"] += run.missing
    if not ended:
        return ""
    said = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in sorted(ended.items()))
    return f"{counted(sum(ended.values()), 'cell')} ended without a result: {said}."
