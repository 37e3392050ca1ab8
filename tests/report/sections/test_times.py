"""The table of times."""

from report.made_runs import record


def test_times_tell_the_first_pass_from_the_others(report):
    where = {"ms_p50": 100.0, "samples_ms": [130.0, 100.0, 90.0]}
    passes = {512: [400.0, 101.0, 99.0], 1024: [], 2048: None}
    rows = report([record(context_tokens=n, warmup_ms=w, **where) for n, w in passes.items()]).tables[
        "Times, one row a cell"
    ]
    assert [(row["warm-up passes"], row["first pass over p50 (ratio)"]) for row in rows] == [
        ("3", "4.000"),
        ("0", "1.300"),
        ("", ""),
    ]
    assert "warm-up passes" not in report([record()]).tables["Times, one row a cell"][0]
