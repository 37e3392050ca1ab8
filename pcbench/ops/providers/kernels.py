"""A library's attention as `calibrated_attention` wants it: what its log is, and rows beyond a length."""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from pcbench.errors import first_line
from pcbench.ops.no_memory import is_out_of_memory
from pcbench.ops.providers.libraries import PROVIDERS, Attend
from pcbench.reference.attention import calibrated_attention

__all__ = ["Kernel", "find_kernel", "learn"]

# of the small call: odd, and more than a tile of 64
ROWS, HEADS, KV_HEADS = 65, 4, 2
# how far a sound kernel may be off there, with scores up to about 3 and values up to about 4 in 16 bits; another log,
# a shifted mask or another head is off by more than ten times as much
OUT_OFF, LSE_OFF = 0.05, 0.02
LOGS = {"natural": 1.0, "base 2": math.log(2.0)}


@dataclass(frozen=True)
class Kernel:
    """Causal attention of a library over as many keys as rows.

    Args:
        attend: the library's.
        nats: of a unit of its log-sum-exp.
        repeats: it wants keys and values repeated for every query head.
    """

    attend: Attend
    nats: float = 1.0
    repeats: bool = False

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Output and log-sum-exp of `calibrated_attention`.

        Args:
            q: [B, H, T, D].
            k, v: [B, Hkv, T, D].
            scale: multiplies the scores.
            lengths: [B] int32, valid rows and keys; None means T.

        Returns:
            out [B, H, T, D] in q's dtype, lse [B, H, T] float32 (natural log), contiguous.
        """
        rows, group = q.shape[2], q.shape[1] // k.shape[1]
        beyond = None if lengths is None else torch.arange(rows, device=q.device) >= lengths[:, None, None]  # [B, 1, T]
        if beyond is not None:
            # what lies there may be anything, and 0 × NaN is NaN
            k, v = (x.masked_fill(beyond[..., None], 0.0) for x in (k, v))
        if self.repeats and group > 1:
            k, v = (x.repeat_interleave(group, 1) for x in (k, v))
        out, lse = self.attend(q, k, v, scale)
        out, lse = out[:, :, :rows], (lse.squeeze(-1) if lse.dim() == 4 else lse)[:, :, :rows].float()
        if self.nats != 1.0:
            lse = lse * self.nats
        if beyond is not None:
            out, lse = out.masked_fill_(beyond[..., None], 0.0), lse.masked_fill_(beyond, -torch.inf)
        return out, lse.contiguous()


@cache
def find_kernel(name: str, device: torch.device, dtype: torch.dtype, head_dim: int) -> Kernel | str:
    """The attention of a provider, or why it cannot run, in one line. Waits for the device the first time.

    Args:
        name: of `PROVIDERS`.
        device, dtype, head_dim: of the call.
    """
    provider = PROVIDERS[name]
    return provider.why_not(device.type, dtype, head_dim) or learn(provider.attend, device, dtype, head_dim)


def learn(attend: Attend, device: torch.device, dtype: torch.dtype, head_dim: int) -> Kernel | str:
    """What a small call shows of a library: whether it takes groups of heads, and which log it gives.

    Libraries differ in both and change with their versions; one that is right by none of them is not used.

    Returns:
        The kernel, or what is wrong in one line.
    """
    draws = torch.Generator().manual_seed(0)
    sizes = (HEADS, KV_HEADS, KV_HEADS)
    made = [torch.randn(1, heads, ROWS, head_dim, generator=draws).to(device, dtype) for heads in sizes]
    scale = head_dim**-0.5
    truth, total, _ = calibrated_attention(*(x.float() for x in made), scale=scale, causal=True)
    found = ""
    for repeats in (False, True):
        try:
            for nats in LOGS.values():
                kernel = Kernel(attend, nats, repeats)
                out, lse = kernel(made[0], made[1], made[2], scale)
                if _near(out, truth, OUT_OFF) and _near(lse, total, LSE_OFF):
                    return kernel
            found = found or "its output or log-sum-exp of a small call is wrong"
        except Exception as error:
            if is_out_of_memory(error):
                raise
            found = found or f"it refuses a small call ({first_line(error)})"
    return found


def _near(x: Tensor, truth: Tensor, off: float) -> bool:
    # a NaN is not
    return x.shape == truth.shape and bool(((x.float() - truth).abs() <= off).all())
