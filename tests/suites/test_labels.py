"""What people call cells: a name, and as few words as tell one from the others."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from pcbench.errors import ConfigError
from pcbench.harness.options import Options
from pcbench.harness.plan import plan
from pcbench.suites.labels import labels

KEPT = {"capacity": None, "rows": 8, "pool": 7, "share": 0.5}


@dataclass(frozen=True)
class One:
    method: str = "parallel_comp"
    method_config: dict[str, Any] = field(default_factory=dict)
    backend: str = "cpu"
    label: str | None = None


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        ([One("full", backend="torch"), One(), One()], ["Full attention", "ParallelComp", "ParallelComp"]),
        (
            [One(method_config={"keep": 3, "evict": None}), One(method_config={"keep": 3, "evict": KEPT})],
            ["ParallelComp", "ParallelComp, half the tokens evicted"],
        ),
        # what already tells them apart is enough
        (
            [One(method_config={"keep": k, "window": w}) for k, w in ((1, 8), (3, 32), (3, 8))],
            [
                "ParallelComp, 1 chunk kept, window 8",
                "ParallelComp, 3 chunks kept, window 32",
                "ParallelComp, 3 chunks kept, window 8",
            ],
        ),
        ([One(backend="reference"), One()], ["ParallelComp, in pure PyTorch", "ParallelComp"]),
        ([One(backend="cpu"), One(backend="cuda")], ["ParallelComp, cpu kernels", "ParallelComp, cuda kernels"]),
        # null is as good as absent
        (
            [One("snapkv", {"reverse": x}) for x in (False, True, None)] + [One("snapkv", {})],
            ["SnapKV, no reverse", "SnapKV, reverse", "SnapKV", "SnapKV"],
        ),
        ([One("fast", {}), One("sdpa-flash", {}, "torch")], ["fast", "sdpa-flash"]),
        (
            [One(label="halved", method_config={"keep": k}) for k in (1, 2)] + [One(method_config={"keep": 1})],
            ["halved, 1 chunk kept", "halved, 2 chunks kept", "ParallelComp"],
        ),
        ([One("snapkv", label="small"), One("h2o", label="small")], ["small, SnapKV", "small, H2O"]),
        ([One("snapkv"), One("h2o", label="SnapKV, SnapKV"), One("h2o", label="SnapKV")],
         ["SnapKV, SnapKV", "SnapKV, SnapKV (2)", "SnapKV, H2O"]),
    ],
)  # fmt: skip
def test_labels_say_a_name_and_what_differs(cells, wanted):
    assert labels(cells) == wanted


SUITE = """
[suite]
kind = "prefill"
model = "random:tiny"
dtype = "float32"
context_tokens = [512]
[[workload]]
name = "passkey"
task = "passkey"
[[cell]]
method = "full"
backend = "torch"
[[cell]]
method = "parallel_comp"
label = "ours"
backend = ["auto", "reference"]
[cell.config]
chunk_tokens = 128
"""


@pytest.fixture
def planned(tmp_path):
    def make(text: str):
        path = tmp_path / "labelled.toml"
        path.write_text(text)
        return [one.cell for one in plan(Options(str(path), device="cpu")).kind.cells]

    return make


def test_cells_have_the_label_of_their_suite_which_is_no_part_of_the_key(planned):
    full, ours, reference = planned(SUITE)
    assert full.name == "Full attention on passkey, 512 tokens"
    assert ours.name == "ours on passkey, 512 tokens"
    assert reference.name == "ours, in pure PyTorch on passkey, 512 tokens"
    plain = planned(SUITE.replace('label = "ours"\n', ""))
    assert [cell.key for cell in plain] == [full.key, ours.key, reference.key]
    assert plain[1].name == "ParallelComp on passkey, 512 tokens"


def test_a_label_of_two_methods_is_refused(planned):
    two = SUITE + '[[cell]]\nmethod = "snapkv"\nlabel = "ours"\n[cell.config]\ntokens = 64\n'
    with pytest.raises(
        ConfigError, match=r'cell.label: one method for a label, got "ours" of parallel_comp and snapkv'
    ):
        planned(two)
