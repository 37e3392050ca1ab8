"""How the compiled chunk_select multiplies: off the CPU on tensors without contents, on it in which precision."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pcbench import ops
from pcbench.measure.kernels.cases import CASES, compare, run
from pcbench.ops import backends, chunks
from pcbench.ops.isa import multiplies_bfloat16
from tests.ops.calls import check_logits

ROWS, HIDDEN, VOCAB, CHUNKS, KEEP = 1080, 4096, 128256, 36, 3


class Watch(TorchDispatchMode):
    """Notes the bytes of every new storage and the dtypes of every matmul."""

    def __init__(self, inputs):
        super().__init__()
        self.known = {x.untyped_storage()._cdata: x for x in inputs}
        self.bytes, self.matmuls = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.matmul, torch.ops.aten.addmm):
            self.matmuls.append((args[0].dtype, args[1].dtype, out.dtype))
        for x in out if isinstance(out, tuple | list) else (out,):
            if isinstance(x, torch.Tensor) and x.untyped_storage()._cdata not in self.known:
                # kept, or another storage gets its address
                self.known[x.untyped_storage()._cdata] = x
                self.bytes.append(x.untyped_storage().nbytes())
        return out


def watched(monkeypatch, dtype):
    # the ops are registered with the library; no backend has tensors without contents
    assert not ops.why_not("cpu")
    for module in (chunks, backends):
        monkeypatch.setattr(module, "require", lambda *_: None)
    with torch.device("meta"):
        targets, segments = torch.empty(2, ROWS, dtype=torch.int32)
        chunk_ids, slots = torch.empty(2, CHUNKS, dtype=torch.int32)
        best_ids, best_slots = torch.empty(2, KEEP, dtype=torch.int32)
        inputs = dict(
            hidden=torch.empty(ROWS, HIDDEN, dtype=dtype),
            lm_head=torch.empty(VOCAB, HIDDEN, dtype=dtype),
            targets=targets,
            segments=segments,
            chunk_ids=chunk_ids,
            slots=slots,
            best_scores=torch.empty(KEEP),
            best_ids=best_ids,
            best_slots=best_slots,
        )
    with Watch(inputs.values()) as watch:
        scores, freed = chunks.chunk_select(**inputs)
    assert scores.shape == freed.shape == (CHUNKS,)
    return watch


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_chunk_select_multiplies_16_bits_and_needs_a_twentieth_of_the_logits(dtype, monkeypatch):
    watch = watched(monkeypatch, dtype)
    assert set(watch.matmuls) == {(dtype, dtype, torch.float32)}
    # all that is ever allocated, not only what is alive at a time
    assert sum(watch.bytes) <= ROWS * VOCAB * 2 / 20


def test_chunk_select_widens_a_tile_at_a_time_where_a_matmul_has_no_dtype_of_its_own(monkeypatch):
    monkeypatch.setattr(chunks, "MIXED_MATMUL", False)
    watch = watched(monkeypatch, torch.bfloat16)
    assert set(watch.matmuls) == {(torch.float32,) * 3}
    assert max(watch.bytes) <= VOCAB // 40 * HIDDEN * 4


@pytest.mark.parametrize(("rows", "columns", "depth"), [(1, 1, 2), (13, 33, 34), (31, 100, 62), (5, 64, 576)])
def test_bfloat16_logits_are_float32_sums(rows, columns, depth, isa):
    if isa not in ("avx512_bf16", "amx"):
        assert not multiplies_bfloat16()
        with pytest.raises(RuntimeError, match="chunk_select: an instruction set that multiplies bfloat16"):
            torch.ops.pcbench._logits(*torch.zeros(2, 1, 2).bfloat16(), torch.zeros(1, 1))
        return
    check_logits(torch.ops.pcbench, rows, columns, depth)


@pytest.mark.parametrize(
    ("rows", "weights", "out", "words"),
    [
        ((3, 4), (5, 6), (3, 5), "weights must be"),
        ((3, 3), (5, 3), (3, 5), "E must be even, got 3"),
        ((3, 4), (5, 4), (3, 6), "out must be"),
    ],
)
def test_wrong_bfloat16_logits_are_refused(rows, weights, out, words):
    with pytest.raises(RuntimeError, match=f"chunk_select: {words}"):
        torch.ops.pcbench._logits(torch.zeros(rows).bfloat16(), torch.zeros(weights).bfloat16(), torch.zeros(out))
    with pytest.raises(RuntimeError, match="chunk_select: rows must have a dtype that this op takes, got Float"):
        torch.ops.pcbench._logits(torch.zeros(3, 4), torch.zeros(5, 4), torch.zeros(3, 5))


@pytest.mark.parametrize("multiplies", [True, False])
def test_bfloat16_scores_of_a_cpu_are_those_of_float32(multiplies, monkeypatch):
    # logits of up to 40, as a model's: rounded to bfloat16 a score would be off by 0.02 and more
    if multiplies and not multiplies_bfloat16():
        pytest.skip("this CPU multiplies no bfloat16")
    monkeypatch.setattr(chunks, "multiplies_bfloat16", lambda: multiplies)
    case = next(case for case in CASES if str(case) == "chunk_select-several tiles")
    inputs = case.inputs("cpu", torch.bfloat16)
    inputs["hidden"] *= 10
    for result, comparison in compare("chunk_select", inputs, run(ops, "chunk_select", inputs)).items():
        assert comparison.ok, f"{result}: {comparison}"
