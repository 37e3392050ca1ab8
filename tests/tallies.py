"""What tests count beside passing, summed over the processes that run them and printed at the end."""

from collections import Counter, defaultdict

import pytest

# what is counted → name → how many; a folder's tests write here, and the lines below are printed from it
TALLIES: defaultdict[str, Counter[str]] = defaultdict(Counter)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """A worker of pytest-xdist hands its counts to the process that prints."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tallies"] = {name: dict(counts) for name, counts in TALLIES.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Adds what a worker counted; one that died has handed over nothing."""
    for name, counts in getattr(node, "workeroutput", {}).get("tallies", {}).items():
        TALLIES[name].update(counts)


def pytest_terminal_summary(terminalreporter):
    for line in summary():
        terminalreporter.write_line(line)


def summary() -> list[str]:
    """`hostile cases: records 240, manifest 180; 420 in all, 0 wrong` and the like; nothing for what did not run."""
    lines = [f"emulated {library}: {blocks} blocks" for library, blocks in sorted(TALLIES["emulated blocks"].items())]
    for backend, seconds in sorted(TALLIES["build seconds"].items()):
        how = "built from nothing" if backend in TALLIES["clean builds"] else "built"
        lines.append(f"{backend} kernels: {how} in {seconds:.0f} s")
    if cases := TALLIES["hostile cases"]:
        counts = ", ".join(f"{surface} {n:,}" for surface, n in sorted(cases.items()))
        wrong = TALLIES["hostile wrong"].total()
        lines.append(f"hostile cases: {counts}; {cases.total():,} in all, {wrong:,} wrong")
    return lines
