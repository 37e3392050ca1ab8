"""Kernels against baselines in the same process: interleaved pairs, ratios, and a record to hold them against.

A ratio is the baseline's time over the op's: 2 is twice as fast. Absolute times are printed and never judged.
`--compare-baseline` fails where `pcbench compare` would call it a regression beyond MARGIN, twice in a row: a
neighbour's burst of work is shorter than two races. An instruction set and number of threads without a record is
recorded.
"""

import json
from pathlib import Path

import pytest
import torch
from races import held_against, interleaved, repeats

from pcbench.ops.isa import cpu_isa
from pcbench.report.compare.text import Table, write_markdown
from pcbench.report.wording import counted

RECORDED = Path(__file__).parent / "baseline.json"
MARGIN = 0.1
PAIRS = 15

measured = {}


def pytest_addoption(parser):
    parser.addoption("--compare-baseline", action="store_true", help="hold the ratios against the record")
    parser.addoption("--baseline", type=Path, default=RECORDED, metavar="FILE", help="the record; new keys are added")
    parser.addoption("--markdown", type=Path, metavar="FILE", help="write the ratios as Markdown, too")


def key():
    """What a record is kept under."""
    return f"{cpu_isa()}/{torch.get_num_threads()}"


def recorded(config):
    """Key → test → the ratio of each pair."""
    path = config.getoption("--baseline")
    return json.loads(path.read_text()) if path.exists() else {}


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def race(benchmark, request):
    """Times an op and its baseline in turns and holds the ratios of the pairs against the recorded ones."""

    def run(op, baseline, pairs=PAIRS):
        name = request.node.name
        known = (
            recorded(request.config).get(key(), {}).get(name)
            if request.config.getoption("--compare-baseline")
            else None
        )
        for _ in range(2):
            found = interleaved(op, baseline, pairs)
            found |= held_against(known, found["ratios"], MARGIN) if known else {"verdict": "new", "why": None}
            if found["verdict"] != "regression":
                break
        measured[name] = found
        benchmark.extra_info.update({n: found[n] for n in ("ratio", "ratio_low", "ratio_high")}, pairs=pairs, key=key())
        benchmark.pedantic(op, rounds=3, iterations=repeats(op))
        assert found["verdict"] != "regression", line(found)

    return run


def line(found):
    """The ratio, and what the record says about it."""
    text = f"{found['ratio']:.2f} [{found['ratio_low']:.2f}, {found['ratio_high']:.2f}]"
    if "time_ratio" in found:
        factor, low, high = found["time_ratio"]
        text += f", ×{factor:.2f} [{low:.2f}, {high:.2f}] as long as recorded"
    return f"{text}, {found['verdict']}" + (f": {found['why']}" if found["why"] else "")


def pytest_terminal_summary(terminalreporter, config):
    if not measured:
        return
    title = f"baseline time / op time, {key()}"
    terminalreporter.section(title)
    order = ("regression", "cannot tell", "slower", "faster", "same", "new")
    names = sorted(measured, key=lambda name: order.index(measured[name]["verdict"]))
    for name in names:
        terminalreporter.write_line(f"{name}: {line(measured[name])}")
    if config.getoption("--compare-baseline"):
        record(config, terminalreporter)
    if path := config.getoption("--markdown"):
        rows = [[name, line(measured[name])] for name in names]
        regressions = sum(found["verdict"] == "regression" for found in measured.values())
        head = f"pcbench benchmarks: {counted(regressions, 'regression')} beyond {MARGIN * 100:g} % on {key()}"
        write_markdown(path, head, [Table(title, ["benchmark", "ratio"], rows)])


def record(config, terminalreporter):
    """Adds what the record does not hold yet."""
    path, before = config.getoption("--baseline"), recorded(config)
    known = before.setdefault(key(), {})
    new = {n: [round(x, 3) for x in found["ratios"]] for n, found in measured.items() if n not in known}
    if new:
        known |= new
        blocks = (f"{json.dumps(k)}: {{\n{lines(before[k])}\n}}" for k in sorted(before))
        path.write_text("{\n" + ",\n".join(blocks) + "\n}\n")
        terminalreporter.write_line(f"recorded {counted(len(new), 'new benchmark')} in {path.name}")


def lines(tests):
    """A line a test."""
    return ",\n".join(f"  {json.dumps(name)}: {json.dumps(tests[name])}" for name in sorted(tests))
