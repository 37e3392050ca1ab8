"""Runs the command line on hostile input, in this process, and says what is wrong with how it ended."""

import contextlib
import faulthandler
import io
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import bidirectional, category

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy
from tallies import TALLIES

from pcbench.cli import main

# surface → cases, and those that ended otherwise than they may
CASES = TALLIES["hostile cases"]
WRONG = TALLIES["hostile wrong"]
# nothing here measures: what takes so long hangs; a call into C that no signal reaches ends the whole test run
SECONDS, NO_RETURN = 60, 180
# a command does its work or refuses what it was given: no case measures, checks an op or asks for a regression
CODES = (0, 2)
# of embeddings, overrides and isolates
BIDI = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


class Hung(BaseException):
    """A command that did not end."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or the traceback of what it raised, and what it printed."""

    code: int | None
    out: str
    err: str
    raised: str = ""


def run(arguments: Sequence[str], function: Callable[[list[str]], Any] = main) -> Ended:
    """Runs a command line; what is printed to the file descriptors, too, is caught.

    Args:
        arguments: without the program's name.
        function: takes them and raises SystemExit.
    """
    code, raised = None, ""
    with _caught() as printed, _stopped_after(SECONDS):
        try:
            function(list(arguments))
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        except Hung:
            raised = f"hung: not ended after {SECONDS} s"
        except BaseException:
            raised = traceback.format_exc()
    out, err = printed
    return Ended(code, out, err, raised)


def faults(ended: Ended, codes: Sequence[int] = CODES) -> list[str]:
    """What is wrong with how a command ended; nothing where it is as it must be.

    Args:
        ended: the command.
        codes: exit codes that it may have.
    """
    found = [ended.raised] if ended.raised else []
    if not ended.raised and ended.code not in codes:
        found.append(f"exit code {ended.code}, not one of {codes}")
    lines = ended.err.removesuffix("\n").split("\n") if ended.err else []
    if "Traceback (most recent call last)" in ended.out + ended.err:
        found.append("a traceback was printed")
    elif ended.code == 0 and lines:
        found.append(f"{len(lines)} lines on stderr of a command that did its work")
    elif ended.code and len(lines) != 1:
        found.append(f"{len(lines)} lines on stderr")
    elif lines and len(lines[0]) > 2000:
        found.append(f"a line of {len(lines[0])} letters")
    elif ended.code == 0 and not ended.out.strip():
        found.append("nothing on stdout of a command that did its work")
    bad = {letter for letter in ended.out + ended.err if _is_control(letter)}
    if bad:
        found.append(f"control characters {sorted(map(ascii, bad))}")
    return found


def check(surface: str, arguments: Sequence[str], codes: Sequence[int] = CODES, shown: object = "") -> Ended:
    """Runs a command line as a case of a surface, and fails where it does not end as it must.

    Args:
        surface: whose case it is, for the count.
        arguments: without the program's name.
        codes: exit codes that it may have.
        shown: what made it, for the message.
    """
    CASES[surface] += 1
    ended = run(arguments)
    found = faults(ended, codes)
    if found:
        WRONG[surface] += 1
        said = "\n".join(found)
        printed = f"stdout {ended.out!r:.2000}\nstderr {ended.err!r:.2000}"
        pytest.fail(f"{surface}: {shown!r}\npcbench {list(arguments)}\n{said}\n{printed}", pytrace=False)
    return ended


def search(strategy: SearchStrategy[Any], examples: int, case: Callable[[Any], object]) -> None:
    """Tries examples of a strategy, the same in every run; the smallest that fails is shown.

    Args:
        strategy: what makes the cases.
        examples: how many.
        case: runs one of them.
    """

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(strategy)
    def tried(one: Any) -> None:
        case(one)

    tried()


def sized(few: int, many: int) -> pytest.MarkDecorator:
    """Gives a test its number of `examples`: few, and as a slow test many."""
    return pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])


def _is_control(letter: str) -> bool:
    return letter != "\n" and (category(letter) in ("Cc", "Cs", "Zl", "Zp") or bidirectional(letter) in BIDI)


@contextlib.contextmanager
def _caught() -> Iterator[list[str]]:
    """What is printed by Python or through the descriptors 1 and 2; read at the end."""
    printed: list[str] = []
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
        kept = [os.dup(1), os.dup(2)]
        try:
            for number, file in zip((1, 2), files, strict=True):
                os.dup2(file.fileno(), number)
            out, err = (io.TextIOWrapper(os.fdopen(n, "wb", 0, closefd=False), write_through=True) for n in (1, 2))
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                yield printed
        finally:
            for number, before in zip((1, 2), kept, strict=True):
                os.dup2(before, number)
                os.close(before)
            for file in files:
                file.seek(0)
                printed.append(file.read().decode(errors="surrogateescape"))


@contextlib.contextmanager
def _stopped_after(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(NO_RETURN, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()
