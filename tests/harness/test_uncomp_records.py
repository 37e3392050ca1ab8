"""Methods whose budgets come from an entropy table, measured: what their records show."""

import torch

from pcbench.harness.runner import run
from pcbench.methods.uncomp.table import default_path
from pcbench.models import model_spec
from tests.methods.uncomp.test_method import make_table


def test_records_show_the_head_groups_their_table_and_the_stages(options, console, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    spec = model_spec("random:tiny")
    table = make_table(spec)
    # a drop of the curve: the second layer is a stage of its own
    table.curve[:] = torch.tensor([9.0, 1.0])
    table.write(default_path(spec, "queries"))
    names = ["uncomp", "uncomp_stage"]
    sets = ["suite.context_tokens=[300]", "suite.workloads=['passkey']", *(f"cell.{name}.tokens=64" for name in names)]
    _, records = run(options(methods=["full", *names], sets=sets), console)
    full, plain, staged = sorted(records, key=lambda record: ["full", *names].index(record.method))
    for record in (plain, staged):
        assert record.status == "ok", record.error
        assert record.parity_err is not None
        assert record.parity_err <= record.parity_bound
        assert len(record.method_config["table_sha256"]) == 64
        assert [sorted(text) for text in record.method_config["head_groups"]] == [["0", "1"]] * 2
        assert record.kv_bytes == record.kv_bytes_predicted < full.kv_bytes
    assert plain.kv_bytes == staged.kv_bytes
    assert "stages" not in plain.method_config
    assert staged.method_config["stages"] == [1, 1]
