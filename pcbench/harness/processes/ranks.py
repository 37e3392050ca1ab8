"""The processes of a torchrun: whose share is whose, and what one tells the others.

They exchange small Python objects only, so the process group is gloo's on every device: nothing of it lies in the
GPU memory that is measured.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from pcbench.errors import ConfigError, PcbenchError, RankLost
from pcbench.system.surroundings import whole_number
from pcbench.types import Record

__all__ = ["from_first", "gather", "joined", "launch", "rank", "ranks", "share", "uses_ranks", "warn_of_neighbours"]

T = TypeVar("T")

# a rank waits until the slowest has its share; one that died is noticed at once
PATIENCE = timedelta(days=30)
NO_RANKS_AFTER_AN_ERROR = 2
# where torchrun's nodes meet if nothing else is said
RENDEZVOUS_PORT = 29400


def rank() -> int:
    """Which of the processes this is; 0 without torchrun."""
    return whole_number("RANK", 0, most=ranks() - 1)


def ranks() -> int:
    """How many there are; 1 without torchrun."""
    return whole_number("WORLD_SIZE", 1, least=1)


def local_ranks() -> int:
    """How many of them are on this machine."""
    return whole_number("LOCAL_WORLD_SIZE", ranks(), least=1, most=ranks())


def launch() -> list[str]:
    """The words before a command that start as many ranks; on every machine the same. None without torchrun."""
    if ranks() == 1:
        return []
    nodes, words = -(-ranks() // local_ranks()), [f"--nproc-per-node={local_ranks()}"]
    if nodes > 1:
        meeting = f"{os.environ.get('MASTER_ADDR', 'HOST')}:{RENDEZVOUS_PORT}"
        words += [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}"]
    return ["torchrun", *words, "--no-python"]


def uses_ranks(prepared: Any) -> bool:
    """Whether a cell's method shares every prompt over the ranks there are."""
    return getattr(getattr(prepared, "config", None), "uses_ranks", False)


def share(items: Sequence[T]) -> list[T]:
    """This rank's part: every `ranks()`-th item from the rank-th on. Together the parts are all items, each once."""
    return list(items[rank() :: ranks()])


def warn_of_neighbours(records: Sequence[Record]) -> None:
    """Says of times taken on a CPU that other ranks were computing there."""
    others = local_ranks() - 1
    for record in records:
        if others and record.device == "cpu" and record.ms_p50 is not None:
            record.warnings.append(f"timed beside {others} other ranks on this CPU")


@contextmanager
def joined() -> Iterator[None]:
    """Joined with the other ranks until the end of a `with`; each sees one GPU, its own.

    Raises:
        ConfigError: the variables that torchrun sets make no sense.
        RankLost: within, from any collective, when another rank has ended, or from anywhere, when torchrun ends
            this rank for that reason.
    """
    # also where there is one: a second that takes itself for the first would write what that one writes
    rank()
    if ranks() == 1:
        yield
        return
    _see_one_gpu()
    _meet()
    before, leave = signal.signal(signal.SIGTERM, _ended), dist.destroy_process_group
    try:
        yield
    except BaseException as error:
        # torchrun ends a rank as soon as another has failed; this one still has something to say
        before = signal.SIG_IGN
        if isinstance(error, RankLost):
            # what the lost rank owes never comes
            leave = dist.distributed_c10d._abort_process_group
        raise
    finally:
        try:
            signal.signal(signal.SIGTERM, before)
        finally:
            # gloo's threads must not outlive Python
            leave()


def _meet() -> None:
    names = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if names:
        raise ConfigError(
            f"{names[0]}: set, with WORLD_SIZE {ranks()}, got nothing; torchrun sets it, or unset WORLD_SIZE"
        )
    place = f"{os.environ['MASTER_ADDR']}:{whole_number('MASTER_PORT', 0, most=65535)}"
    try:
        dist.init_process_group("gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise ConfigError(f"MASTER_ADDR: where all ranks meet, got {place}: {first}; start with torchrun") from error


def gather(value: T) -> list[T]:
    """The values of all ranks, by rank, on every rank.

    Raises:
        RankLost: another rank has ended.
    """
    if ranks() == 1:
        return [value]
    found: list[Any] = [None] * ranks()
    try:
        dist.all_gather_object(found, value)
    except RuntimeError:
        _ended()
    return found


def from_first(make: Callable[[], T]) -> T:
    """What `make` returns on rank 0, on every rank.

    Raises:
        PcbenchError: on rank 0 what `make` raises; the other ranks end silently after it.
    """
    made: T | None = None
    failure: PcbenchError | None = None
    if rank() == 0:
        try:
            made = make()
        except PcbenchError as error:
            failure = error
    # modules of what it made, as those of its working folder, are found where it found them
    sys.path += [folder for folder in gather(list(sys.path))[0] if folder not in sys.path]
    first, failed = gather((made, failure is not None))[0]
    if failure is not None:
        raise failure
    if failed:
        _wait_for_the_end_of_first()
    return first  # type: ignore[return-value]


def _wait_for_the_end_of_first() -> None:
    """Torchrun ends the other ranks as soon as one has failed; rank 0 has something to say before."""
    try:
        gather(None)
    except RankLost:
        raise SystemExit(NO_RANKS_AFTER_AN_ERROR) from None


def _see_one_gpu() -> None:
    """Before anything asks for a GPU; children inherit it."""
    names = [*(["HIP_VISIBLE_DEVICES"] if torch.version.hip else []), "CUDA_VISIBLE_DEVICES"]
    name = next((name for name in names if name in os.environ), names[0])
    local = whole_number("LOCAL_RANK", 0, most=local_ranks() - 1)
    # set to nothing, it hides all
    visible = os.environ[name].split(",") if name in os.environ else None
    os.environ[name] = str(local) if visible is None else ",".join(visible[local : local + 1])


def _ended(*_: object) -> None:
    """Another rank has ended; a second notice, from torchrun, must not disturb the first."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if isinstance(sys.exception(), RankLost):
        return
    raise RankLost("torchrun: every rank until the end, got one that ended before")
