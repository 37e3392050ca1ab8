"""dual_chunk_attention on every instruction set: random calls, and what the method promises."""

from functools import partial
from random import Random

import pytest
import torch
from dense_dual_chunk import call_of, dense, drawn, frequencies_of

from pcbench import ops
from pcbench.measure.kernels.cases import Case, check_case
from pcbench.measure.kernels.dual_chunk_cases import dual_chunk

PERIOD, CLIP = 40, 47
SETTINGS = {"period": PERIOD, "clip": CLIP, "scale": 0.125, "frequencies": frequencies_of(64)}


def random_case(seed):
    """Few rows and many, those of one batch row and kv-head elsewhere than those of another."""
    random = Random(seed)
    batch, kv_heads, group = random.randint(1, 3), random.randint(1, 3), random.choice([1, 2, 3, 4, 8])
    rows = random.choice([1, 1, 7, random.randint(20, 400)])
    most = rows + random.choice([0, random.randint(1, 900)])
    period, dim = random.choice([random.randint(1, most + 9), 32 * random.randint(1, 9)]), random.choice([64, 96, 128])
    make = partial(
        dual_chunk,
        heads=kv_heads * group,
        rows=rows,
        lengths=[[random.choice([most, random.randint(0, most)]) for _ in range(kv_heads)] for _ in range(batch)],
        period=period,
        clip=period + random.randint(0, 2 * period),
        dim=dim,
        channels=random.choice([dim, dim // 2, 2 * random.randint(0, dim // 2)]),
        interleaved=random.random() < 0.5,
        query_lengths=random.choice([None, [random.randint(0, rows) for _ in range(batch)]]),
        gains=random.random() < 0.5,
        listed=random.choice([None, random.randint(0, 5)]),
        tile_rows=random.choice([1, 16, 33]),
        sliced=random.random() < 0.3,
    )
    return Case("dual_chunk_attention", f"drawn {seed}", make)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["float32", "bfloat16", "float16"]
)
@pytest.mark.parametrize("seed", range(16))
def test_random_calls(seed, dtype, isa):
    for result, comparison in check_case(random_case(seed), ops.backend("cpu"), "cpu", dtype).items():
        assert comparison.ok, f"{result}: {comparison}"


def close(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)


def run(sequences, **more):
    return ops.dual_chunk_attention(**call_of(sequences, dtype=torch.float32, **(SETTINGS | more)))


@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim", "frequencies", "interleaved"),
    [
        (2, 2, 64, frequencies_of(64), False),
        (4, 1, 96, frequencies_of(48), True),
        (8, 1, 128, frequencies_of(100) / 4, False),
        (6, 1, 64, frequencies_of(64, base=5000.0), True),
    ],
    ids=["G 1", "G 4, D 96", "G 8, D 128", "G 6"],
)
def test_lengths_around_whole_chunks_equal_the_dense_softmax(heads, kv_heads, dim, frequencies, interleaved, isa):
    lengths = [1, PERIOD - 1, PERIOD, PERIOD + 1, 2 * PERIOD - 1, 2 * PERIOD, 2 * PERIOD + 1, 3 * PERIOD + 7]
    sequences = [drawn(n, n, heads, kv_heads, dim) for n in lengths]
    changes = {"frequencies": frequencies, "interleaved": interleaved}
    out, lse = run(sequences, **changes)
    ends_out, ends_lse = run(sequences, rows=1, **changes)
    for b, n in enumerate(lengths):
        wanted = dense(*sequences[b], **(SETTINGS | changes))
        close((out[b, :, :n], lse[b, :, :n]), wanted)
        close((ends_out[b], ends_lse[b]), (x[:, -1:] for x in wanted))


# rows enough for keys that are packed once; chunks of whole panels and others
@pytest.mark.parametrize("period", [32, 41])
def test_the_answer_does_not_depend_on_how_the_prompt_is_split(period, isa):
    length, changes = 240, {"period": period, "clip": period + 9}
    q, k, v = drawn(1, length, heads=4)
    gains = 1 + torch.rand(length, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = dense(q, k, v, gains=gains, **(SETTINGS | changes))
    end = 0
    for step in (200, 37, 1, 1, 1):
        end += step
        part = [x[:, :end] for x in (q, k, v)]
        found = run([part], rows=step, gains=gains[None, end - step : end].float(), **changes)
        close((x[0] for x in found), (x[:, end - step : end] for x in wanted))


def test_further_chunks_have_no_order(isa):
    q, k, v = drawn(5, 4 * PERIOD + 11)
    order = torch.arange(4 * PERIOD).view(4, PERIOD)[[2, 0, 1, 3]].flatten()
    order = torch.cat((order, torch.arange(4 * PERIOD, 4 * PERIOD + 11)))
    found = [run([x], rows=11) for x in ((q, k, v), (q, k[:, order], v[:, order]))]
    close(found[0], (x.double() for x in found[1]))


@pytest.mark.parametrize("rows", [1, 210])
def test_all_chunks_listed_is_no_list(rows, isa):
    sequence, tiles = drawn(7, 210, heads=4), -(-rows // 20)
    chunks = torch.arange(6, dtype=torch.int32).flip(0).repeat(1, 1, tiles, 1)
    close(run([sequence], rows=rows, chunks=chunks, tile_rows=20), (x.double() for x in run([sequence], rows=rows)))


def test_scores_of_a_thousand_give_no_nan(isa):
    q, k, v = drawn(11, 130, dim=64)
    q, k = (x.float().double() for x in (20 * q, 20 * k))
    out, lse = run([(q, k, v)])
    assert lse.abs().max() > 1000
    assert out.isfinite().all()
    wanted = dense(q, k, v, **SETTINGS)
    torch.testing.assert_close(lse[0].double(), wanted[1], rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 50])
def test_segments_outside_the_store_are_empty(rows, isa):
    call = call_of([drawn(0, 60), drawn(1, 50)], **SETTINGS, rows=rows, dtype=torch.float32)
    call["starts"][1] = len(call["k_rows"]) - 49
    out, lse = ops.dual_chunk_attention(**call)
    assert lse[0].isfinite().all()
    assert lse[1].isneginf().all()
    assert not out[1].any()
