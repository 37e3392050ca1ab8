"""One prompt's chunks over the processes of a torch.distributed group: rank 0 leads, the others follow.

The leader sends each prompt; every rank prefills its share of the chunks and keeps its best; the scores of all are
summed up, and the slots of the chunks that are best of all go to the leader, which reads the query alone. Slots travel
as sums of integers in which one rank holds the bits and the others zeros, so they arrive as they were.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pcbench.errors import PcbenchError, RankLost
from pcbench.methods.parallel_comp.config import Config
from pcbench.methods.parallel_comp.layout import Layout
from pcbench.methods.parallel_comp.ranking import Ranking
from pcbench.types import KVStore, Prompt

__all__ = ["Settled", "Work", "collect", "dismiss", "is_shared", "lead", "next_work", "own_chunks", "settle"]


class Settled(Exception):
    """On a rank that follows: a prompt went wrong, and the leader knows."""


@dataclass(frozen=True)
class Work:
    """A prompt that all ranks prefill; its tensors on the CPU."""

    config: Config
    prompt: Prompt
    backend: str


def is_shared(config: Config) -> bool:
    """Whether other ranks prefill chunks too; without a process group one rank does all."""
    return config.uses_ranks and dist.is_initialized() and dist.get_world_size() > 1


def lead(config: Config, prompt: Prompt, backend: str) -> None:
    """Tells the other ranks what to prefill."""
    parts = {name: getattr(prompt, name).cpu() for name in ("prefix", "context", "query")}
    _broadcast(Work(config, replace(prompt, **parts), backend))


def dismiss() -> None:
    """Tells the other ranks that there is no more to do."""
    _broadcast(None)


def next_work() -> Work | None:
    """What the leader wants next; None when it has no more."""
    found: Work | None = _broadcast(None)
    return found


def own_chunks(chunks: int) -> range:
    """This rank's share: neighbours, so that its micro-batches are whole."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    return range(chunks * rank // ranks, chunks * (rank + 1) // ranks)


def settle(error: Exception | None) -> None:
    """Waits for all ranks; if something went wrong on any of them, no rank goes on with the prompt.

    Raises:
        Settled: on a rank that follows.
        MemoryError: on the leader, when another rank ran out of memory.
        PcbenchError: on the leader, when something else went wrong on another rank; its own error as it is.
    """
    said = None
    if error is not None:
        said = isinstance(error, torch.OutOfMemoryError | MemoryError), str(error).partition("\n")[0]
    found: list[Any] = [None] * dist.get_world_size()
    with _peers():
        dist.all_gather_object(found, said)
    failed = [(rank, *problem) for rank, problem in enumerate(found) if problem is not None]
    if failed and dist.get_rank():
        raise Settled
    if error is not None:
        raise error
    for rank, out_of_memory, message in failed:
        raise (MemoryError if out_of_memory else PcbenchError)(f"rank {rank}: {message}")


def collect(ranking: Ranking, layout: Layout, store: KVStore, own: range, layers: int) -> tuple[Tensor, Tensor]:
    """The best chunks of all ranks, their numbers and slots; on the leader the slots hold them.

    Args:
        ranking: of this rank's chunks; afterwards it has the scores of all.
        layout: of the prompt.
        store: this rank's.
        own: numbers of this rank's chunks.
        layers: of the model.

    Raises:
        RankLost: another rank has ended, or something went wrong here: the others wait for what this rank owes them,
            so the run cannot go on.
    """
    try:
        return _collect(ranking, layout, store, own, layers)
    except RankLost:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        where = f"rank {dist.get_rank()}"
        raise RankLost(f"parallel_comp: every rank's best chunks, got an error on {where} ({said})") from error


def _collect(ranking: Ranking, layout: Layout, store: KVStore, own: range, layers: int) -> tuple[Tensor, Tensor]:
    mine = torch.zeros(len(layout.spans), dtype=torch.bool, device=ranking.scores.device)
    mine[own.start : own.stop] = True
    ranking.scores = torch.where(mine, ranking.scores, 0.0)
    with _peers():
        dist.all_reduce(ranking.scores, group=_tensor_group(ranking.scores))
    local_ids, local_slots = ranking.kept()
    ids = ranking.best_of_all()
    found = ids[:, None] == local_ids  # [K, K]
    slots = (found * local_slots).sum(1).int()
    for layer in range(layers):
        held = store.take(layer, slots)
        for tensor in held:
            tensor[~found.any(1)] = 0
            with _peers():
                dist.reduce(tensor, 0, group=_tensor_group(tensor))
        if dist.get_rank() == 0:
            store.put(layer, torch.arange(layout.keep, dtype=torch.int32, device=ids.device), held)
    return ids, torch.arange(layout.keep, dtype=torch.int32, device=ids.device)


def _broadcast(value: Any) -> Any:
    box = [value]
    with _peers():
        dist.broadcast_object_list(box, 0)
    return box[0]


_groups: dict[str, Any] = {}


def _tensor_group(tensor: Tensor) -> Any:
    """The default group for tensors on a CPU, one of NCCL or RCCL for those on a GPU."""
    if tensor.device.type == "cpu":
        return None
    if "nccl" not in _groups:
        _groups["nccl"] = dist.new_group(backend="nccl")
    return _groups["nccl"]


@contextmanager
def _peers() -> Iterator[None]:
    """Turns what a collective raises when another process has ended into one line."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise RankLost(f"parallel_comp: every rank until the end, got one that ended before ({first})") from error
