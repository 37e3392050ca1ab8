"""What the GPU kernels do on the emulator, counted against the plan."""

import pytest
import torch
from emulated import emulated_ops


def inputs(heads, kv_heads, rows, keys, dim, dtype=torch.bfloat16):
    q, k, v = (torch.randn(1, n, m, dim).to(dtype) for n, m in ((heads, rows), (kv_heads, keys), (kv_heads, keys)))
    return q, k, v


def window_mass_counts(library, heads, rows, dim):
    ops = emulated_ops(library)
    q, k, _ = inputs(heads, 1, rows, 128, dim)
    ints = [torch.tensor(x, dtype=torch.int32) for x in ([[0]], [[128]], [[0]])]
    ops.reset()
    ops.window_mass(q, torch.zeros(1, heads, rows), k[0, 0], *ints, scale=0.1, causal_last=False, longest=128)
    return ops.counts()


@pytest.mark.parametrize("dim", [64, 96, 128])
@pytest.mark.parametrize(("heads", "rows"), [(4, 8), (2, 20)])
def test_window_mass_multiplies_each_key_with_each_row_once(heads, rows, dim):
    # a head's rows fill eights
    eights = heads * -(-rows // 8)
    counts = window_mass_counts("cuda", heads, rows, dim)
    # 16 keys by 8 rows by 16 elements
    assert counts["mma_m16n8k16"] == 128 // 16 * eights * dim // 16
    assert counts["bank conflicts"] == 0
    # 32 keys by 32 rows by 8 elements
    counts = window_mass_counts("hip", heads, rows, dim)
    assert counts["mfma_32x32x8"] == 128 // 32 * -(-eights // 4) * dim // 8


@pytest.mark.parametrize("dim", [64, 128])
def test_window_mass_of_hip_has_no_bank_conflicts(dim):
    assert window_mass_counts("hip", 4, 8, dim)["bank conflicts"] == 0


@pytest.mark.parametrize("library", ["cuda", "hip"])
def test_portable_attention_multiplies_without_bank_conflicts_in_its_tiles(library):
    ops = emulated_ops(library)
    q, k, v = inputs(1, 1, 64, 64, 64, torch.float32)

    def conflicts(keys):
        ops.reset()
        ops.calibrated_attention(q, k[:, :, :keys], v[:, :, :keys], scale=0.1, causal=False)
        return ops.counts()["bank conflicts"]

    # a thread stores eight elements at a time, which costs each eight lanes a second turn; reading costs none
    stores = 2 * 32 * 64 // 8 // 8 * 2
    assert conflicts(64) - conflicts(32) == stores


def test_rows_without_keys_start_no_tile():
    ops = emulated_ops("cuda")
    q, k, v = inputs(2, 1, 40, 40, 64)
    ops.reset()
    ops.calibrated_attention(
        q, k, v, scale=0.1, causal=True, key_lengths=torch.zeros(1, 1, dtype=torch.int32), mass_rows=0
    )
    assert ops.counts().get("mma_m16n8k16", 0) == 0
