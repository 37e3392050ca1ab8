"""Run in processes of tests: a prefill whose chunks two of them share."""

import os
import signal
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from tiny import continued, make_prompt, make_runner, no_stages

from pcbench import ops
from pcbench.errors import RankLost
from pcbench.methods.parallel_comp import ParallelComp
from pcbench.models.stores.slots import SlotCache


@contextmanager
def joined(rank, ranks, where):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{where}/group", rank=rank, world_size=ranks, timeout=timedelta(minutes=5)
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def prompts():
    return [make_prompt(context=n, seed=n, new_tokens=8) for n in (70, 43)]


def results(config, backend):
    """Kept chunks, scores, logits, tokens and kept keys of every prompt."""
    runner = make_runner(backend=backend)
    method = ParallelComp(ParallelComp.Config(**config).resolve(runner.spec, "cpu"), runner)
    found = []
    for prompt in prompts():
        prefilled, logits, tokens = continued(method, prompt, steps=4)
        kept = prefilled.kept_tokens()
        found.append((prefilled.kept_chunks.tolist(), prefilled.chunk_scores.clone(), logits.clone(), tokens, kept))
    return found


def share(rank, ranks, where, configs):
    """Rank 0 leaves what it found in `where`."""
    with joined(rank, ranks, where):
        if rank:
            runner = make_runner()
            ParallelComp.follow(lambda *names: replace(runner, ops=ops.backend(*names)))
        else:
            torch.save([results(config | dict(ranks="chunks"), "cpu") for config in configs], f"{where}/found")
            ParallelComp.dismiss()


def lose(rank, ranks, where):
    """The follower has no memory for the second prompt and is killed in the fourth; rank 0 leaves what it was told."""
    runner = make_runner()
    asked = []

    def breaking(*names):
        asked.append(names)
        if len(asked) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return Starved(runner) if len(asked) == 2 else runner

    with joined(rank, ranks, where):
        if rank:
            ParallelComp.follow(breaking)
        config = ParallelComp.Config(chunk_tokens=11, keep=2, ranks="chunks").resolve(runner.spec, "cpu")
        method, said = ParallelComp(config, runner), []
        for _ in range(5):
            try:
                said.append(str(continued(method, prompts()[0])[0].kept_chunks.tolist()))
            except Exception as error:
                said.append(f"{type(error).__name__}: {error}")
        torch.save(said, f"{where}/said")


def starve(rank, ranks, where, starved):
    """One rank has no memory for its slots when they travel; both leave what they were told."""
    runner = make_runner()
    config = ParallelComp.Config(chunk_tokens=11, keep=2, ranks="chunks").resolve(runner.spec, "cpu")
    if rank == starved:
        SlotCache.take = no_memory
    with joined(rank, ranks, where):
        try:
            if rank:
                ParallelComp.follow(lambda *_: runner)
            ParallelComp(config, runner).prefill(prompts()[0], no_stages)
        except RankLost as error:
            Path(f"{where}/{rank}").write_text(str(error))


def no_memory(*_):
    raise torch.OutOfMemoryError("no more memory\nsecond line")


class Starved:
    """A runner without memory."""

    def __init__(self, runner):
        self.runner = runner

    def __getattr__(self, name):
        return getattr(self.runner, name)

    forward = staticmethod(no_memory)
