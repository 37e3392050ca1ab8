"""How far a compiled op may be from the float64 reference. Loosening one is a **Numbers** line in the changelog."""

import torch

__all__ = ["LSE_FLOOR", "MASS", "MASS_SHARE", "OUT_FLOOR"]

# norm of a row's error over the norm of the row; the reference's own error in this dtype may count twice instead
OUT_FLOOR = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}

# nats, of log-sum-exps and of the losses of chunks, by the dtype of the inputs; the reference's own error in this dtype
# may count twice instead
LSE_FLOOR = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-3}

# error of a key's mass over that mass plus MASS_SHARE of an even share; error of a head's sum over its rows
MASS = 1e-3
MASS_SHARE = 1e-3
