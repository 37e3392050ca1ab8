"""Kernels against baselines in the same process: interleaved pairs, ratios, and a record to hold them against.

A ratio is the baseline's time over the op's: 2 is twice as fast. Absolute times are printed and never judged.
`--compare-baseline` fails where the whole interval of a ratio lies under TOLERATED of the recorded one, twice in a row:
a neighbour's burst of work is shorter than two races. An instruction set and number of threads without a record is
recorded.
"""

import json
import time
from pathlib import Path

import pytest
import torch

from pcbench.ops.isa import cpu_isa
from pcbench.statistics import ratio_interval

RECORDED = Path(__file__).parent / "baseline.json"
TOLERATED = 0.9
PAIRS = 15
# a sample repeats its function until it takes about this long
SAMPLE_MS = 2.0

measured = {}


def pytest_addoption(parser):
    parser.addoption("--compare-baseline", action="store_true", help="hold the ratios against baseline.json")


def key():
    """What a record is kept under."""
    return f"{cpu_isa()}/{torch.get_num_threads()}"


def recorded():
    return json.loads(RECORDED.read_text()) if RECORDED.exists() else {}


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def race(benchmark, request):
    """Times an op and its baseline in turns and keeps the ratio of the medians with its interval."""

    def run(op, baseline, pairs=PAIRS):
        name = request.node.name
        wanted = recorded().get(key(), {}).get(name, 0.0) if request.config.getoption("--compare-baseline") else 0.0
        found = interleaved(op, baseline, pairs)
        if found["ratio_high"] < TOLERATED * wanted:
            found = interleaved(op, baseline, pairs)
        measured[name] = found
        benchmark.extra_info.update(found)
        benchmark.pedantic(op, rounds=3, iterations=repeats(op))
        assert found["ratio_high"] >= TOLERATED * wanted, f"{found}, recorded {wanted:.2f}"

    return run


def interleaved(op, baseline, pairs):
    """The ratio of the medians of so many pairs."""
    counts = [repeats(op), repeats(baseline)]
    samples = [], []
    for i in range(pairs):
        # the side that goes first changes
        for side in (0, 1) if i % 2 else (1, 0):
            samples[side].append(sample((op, baseline)[side], counts[side]))
    ratio, low, high = ratio_interval(samples[1], samples[0])
    return {"ratio": ratio, "ratio_low": low, "ratio_high": high, "pairs": pairs, "key": key()}


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


def pytest_terminal_summary(terminalreporter, config):
    if not measured:
        return
    before = recorded()
    known = before.get(key(), {})
    terminalreporter.section(f"baseline time / op time, {key()}")
    for name, found in measured.items():
        ratio, low, high = (found[field] for field in ("ratio", "ratio_low", "ratio_high"))
        was = f"{known[name]:6.2f}" if name in known else "     –"
        terminalreporter.write_line(f"{ratio:7.2f}  [{low:6.2f}, {high:6.2f}]  recorded {was}  {name}")
    new = {name: round(found["ratio"], 3) for name, found in measured.items() if name not in known}
    if new and config.getoption("--compare-baseline"):
        before[key()] = dict(sorted((known | new).items()))
        RECORDED.write_text(json.dumps(before, indent=2, sort_keys=True) + "\n")
        terminalreporter.write_line(f"recorded {len(new)} new ratios in {RECORDED.name}")
