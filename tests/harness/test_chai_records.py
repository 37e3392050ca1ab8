"""CHAI measured: what its records show."""

from pcbench.harness.runner import run


def test_its_records_hold_parity_and_the_bytes_that_were_promised(options, console):
    sets = ["suite.context_tokens=[300]", "suite.workloads=['passkey']", "cell.chai.clusters=0.5"]
    _, records = run(options(methods=["full", "chai"], sets=sets), console)
    full, ours = sorted(records, key=lambda record: ["full", "chai"].index(record.method))
    assert ours.status == "ok", ours.error
    assert ours.parity_err <= ours.parity_bound
    assert "cached_attention" in ours.parity_ops
    assert ours.kv_bytes == ours.kv_bytes_predicted
    assert ours.kv_bytes < full.kv_bytes
    assert ours.method_config["clusters"] == [1, 1]
