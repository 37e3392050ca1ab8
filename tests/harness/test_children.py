import os

from forked import serve
from tiny import tell_servers

from pcbench.harness.processes.children import memory_kills, started


def test_memory_kills_reads_the_systems_counter(tmp_path):
    counters = tmp_path / "vmstat"
    assert memory_kills(counters) == 0
    counters.write_text("pgfault 12\noom_kill 7\ndrop_pagecache 0\n")
    assert memory_kills(counters) == 7


def test_children_of_children_come_from_the_same_server():
    serve()
    with started(tell_servers, True) as (_, receive):
        own, below = receive.recv()
    assert own == below != os.getpid()
