"""The real program on one or more ranks: as torchrun starts them, or without a start of Python for each of them.

Those are forked from a server that has imported what the program needs.
"""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from multiprocessing import forkserver, get_context
from pathlib import Path

import torch
from torch.distributed import TCPStore

from pcbench.harness.processes.children import _without_script

__all__ = ["CONTEXT", "begun", "forked", "serve", "torchrun"]

CONTEXT = get_context("forkserver")
# where the ranks of one machine meet
HOST = "127.0.0.1"


def serve():
    """Starts the server with what takes long to import, unless there is one: the first start decides what it has."""
    modules = ["pcbench.cli", "pcbench.harness.kinds.methods.peak", "pcbench.report.html"]
    CONTEXT.set_forkserver_preload([*modules, "transformers.models.llama.modeling_llama"])
    forkserver.ensure_running()


def torchrun(words, environment=os.environ, timeout=600):
    """Runs the program on two ranks that torchrun starts and ends.

    Args:
        words: without the interpreter: "-m", "pcbench" or a file, then the arguments.
        environment: variables that it has.
        timeout: seconds.
    """
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python", sys.executable]
    return subprocess.run(
        [sys.executable, *start, *words], capture_output=True, text=True, env=environment, timeout=timeout
    )


def forked(words, place, ranks=1, environment=os.environ, folder=None, timeout=600):
    """Runs the program to its end; of several ranks all end as soon as one has failed, and the exit code is 1.

    Args:
        words: as of `torchrun`.
        place: a folder for what is printed.
        ranks: how many.
        environment: variables that it has.
        folder: that it works in.
        timeout: seconds.
    """
    printed = [Path(place) / f"{time.monotonic_ns()}.{name}" for name in ("out", "err")]
    environment, shared = dict(environment), {}
    if ranks > 1:
        # torchrun's own process holds the store that its ranks meet at, so that it outlives each of them
        store = TCPStore(HOST, 0, ranks, is_master=True, timeout=timedelta(seconds=timeout), wait_for_workers=False)
        shared = {"MASTER_ADDR": HOST, "MASTER_PORT": store.port, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
        shared |= {"TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0, "OMP_NUM_THREADS": 1}
    started = []
    for rank in range(ranks):
        own = shared | ({"RANK": rank, "LOCAL_RANK": rank} if ranks > 1 else {})
        here = environment | {name: str(value) for name, value in own.items()}
        started.append(begun(words, printed, here, folder))
    _wait(started, time.monotonic() + timeout)
    codes = [process.exitcode for process in started]
    code = codes[0] if ranks == 1 else int(any(codes))
    return subprocess.CompletedProcess(words, code, *(path.read_text() if path.exists() else "" for path in printed))


def begun(words, printed, environment=os.environ, folder=None):
    """Begins the program; its `exitcode` is None until it has ended.

    Args:
        words: as of `torchrun`.
        printed: files of what it prints to stdout and to stderr.
        environment: variables that it has.
        folder: that it works in.
    """
    serve()
    arguments = [*map(str, words)], dict(environment), folder or os.getcwd(), printed
    process = CONTEXT.Process(target=_run, args=arguments)
    with _without_script():
        process.start()
    return process


def _wait(started, deadline):
    """Until all have ended; the first that fails ends the others."""
    told = False
    while any(process.is_alive() for process in started):
        if any(process.exitcode for process in started) and not told:
            told = True
            for process in started:
                process.terminate()
        if time.monotonic() > deadline:
            for process in started:
                process.kill()
        time.sleep(0.02)


def _run(words, environment, folder, printed):
    # what it starts is forked from the same server
    forkserver._forkserver.ensure_running = lambda: None
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    # the server may have begun with it blocked
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, path in enumerate(printed, 1):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", torch.get_num_threads())))
    if words[:2] == ["-m", "pcbench"]:
        from pcbench.__main__ import main

        sys.argv = ["pcbench", *words[2:]]
        main()
    else:
        from stopped import run

        sys.argv = words
        run(words[1:])
