"""An op against a baseline in the same process: interleaved pairs, and what a record allows to say about them."""

import time

from pcbench.report.compare.times import judge
from pcbench.statistics import ratio_change, ratio_interval

# a sample repeats its function until it takes about this long
SAMPLE_MS = 2.0


def interleaved(op, baseline, pairs):
    """Times both in turns.

    Args:
        op: a call.
        baseline: a call.
        pairs: how many samples of each.

    Returns:
        `ratio` of the medians, baseline over op, with its interval `ratio_low`, `ratio_high`, and `ratios` of the
        pairs; 2 is twice as fast.
    """
    counts = [repeats(op), repeats(baseline)]
    samples = [], []
    for i in range(pairs):
        # the side that goes first changes
        for side in (0, 1) if i % 2 else (1, 0):
            samples[side].append(sample((op, baseline)[side], counts[side]))
    ratio, low, high = ratio_interval(samples[1], samples[0])
    ratios = [b / a for a, b in zip(*samples, strict=True)]
    return {"ratio": ratio, "ratio_low": low, "ratio_high": high, "ratios": ratios}


def held_against(recorded, ratios, margin):
    """The verdict of `pcbench compare` on ratios of pairs, and the op's time relative to the record with its interval.

    Args:
        recorded: baseline over op, a pair each.
        ratios: the same, measured now.
        margin: a share.
    """
    relative_times = [[1 / ratio for ratio in side] for side in (recorded, ratios)]
    found = ratio_change(*relative_times)
    verdict, why = judge(*found, margin, min(len(recorded), len(ratios)))
    return {"verdict": verdict, "why": why, "time_ratio": found}


def sample(function, count):
    """Mean seconds of `count` calls."""
    start = time.perf_counter()
    for _ in range(count):
        function()
    return (time.perf_counter() - start) / count


def repeats(function):
    """Calls that make a sample."""
    sample(function, 2)
    return max(1, round(SAMPLE_MS / 1e3 / sample(function, 1)))
