"""Counts hostile cases and says at the end how many there were."""

from hostile.guard import summary


def pytest_terminal_summary(terminalreporter):
    if counted := summary():
        terminalreporter.write_line(counted)
