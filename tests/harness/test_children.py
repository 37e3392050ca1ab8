from pcbench.harness.processes.children import memory_kills


def test_memory_kills_reads_the_systems_counter(tmp_path):
    counters = tmp_path / "vmstat"
    assert memory_kills(counters) == 0
    counters.write_text("pgfault 12\noom_kill 7\ndrop_pagecache 0\n")
    assert memory_kills(counters) == 7
