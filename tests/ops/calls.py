"""Small arguments of every op, right as they are: what a test changes is wrong."""

import torch


def draw(*shape, dtype=torch.float32):
    return torch.randn(shape).to(dtype)


def ints(*values):
    return torch.tensor(values, dtype=torch.int32)


def attention(**changes):
    q, k = draw(1, 4, 5, 64), draw(1, 2, 9, 64)
    return {"q": q, "k": k, "v": k, "scale": 0.1, "causal": True} | changes


def mass(**changes):
    kept = {k: v for k, v in attention().items() if k != "v"}
    return kept | {"lse": draw(1, 4, 5), "mass_rows": 3} | changes


def cached(**changes):
    one = {"starts": ints([0, 8]), "lengths": ints([8, 8]), "slots": ints([0])}
    rows = draw(16, 64)
    return one | {"q": draw(1, 4, 1, 64), "k_rows": rows, "v_rows": rows, "scale": 0.1, "causal_last": True} | changes


def quantized(**changes):
    kept = {k: v for k, v in cached().items() if k not in ("k_rows", "v_rows", "causal_last")}
    codes, scales = torch.ones(16, 64, dtype=torch.int8), draw(16, dtype=torch.bfloat16)
    store = {"k_codes": codes, "v_codes": codes, "k_scales": draw(1, 64, dtype=torch.bfloat16), "v_scales": scales}
    return kept | store | changes


def decode(**changes):
    kept = {k: v for k, v in cached().items() if k not in ("slots", "causal_last")}
    return kept | {"longest": 8} | changes


def dual(**changes):
    kept = {k: v for k, v in decode().items() if k != "longest"}
    return kept | {"q": draw(1, 4, 2, 64), "turns": draw(5, 8), "period": 4} | changes


def window(**changes):
    return {k: v for k, v in cached().items() if k not in ("q", "v_rows")} | {
        "q_last": draw(1, 4, 2, 64),
        "lse": draw(1, 4, 2),
        "longest": 8,
        **changes,
    }


def nll(**changes):
    state = {name: draw(3) for name in ("row_max", "row_sum", "row_target")}
    return {"logits": draw(3, 8), "targets": ints(1, 2, 3), "first_column": 0} | state | changes


def topk(**changes):
    best = {"best_scores": draw(2), "best_ids": ints(0, 1), "best_slots": ints(0, 1)}
    return {"scores": draw(2), "chunk_ids": ints(2, 3), "slots": ints(2, 3)} | best | changes


def select(**changes):
    k = draw(1, 2, 40, 64)
    return {"mass": draw(1, 4, 40), "k": k, "v": k, "capacity": 8} | changes


def merge(**changes):
    return {"outs": draw(2, 1, 1, 3, 64), "lses": draw(2, 1, 1, 3)} | changes


# op, the tensor that is looked at first, arguments
CALLS = [
    ("calibrated_attention", "q", attention),
    ("key_mass", "q", mass),
    ("cached_attention", "q", cached),
    ("window_mass", "q_last", window),
    ("decode_attention", "q", decode),
    ("dual_chunk_attention", "q", dual),
    ("merge_states", "outs", merge),
    ("query_nll_update", "logits", nll),
    ("chunk_topk", "scores", topk),
    ("select_tokens", "k", select),
    ("quantized_attention", "q", quantized),
]

# those that have the dtype of the model
MODEL_TENSORS = ("q", "k", "v", "q_last", "k_rows", "v_rows", "logits")


def with_dtype(arguments, dtype):
    return {name: x.to(dtype) if name in MODEL_TENSORS else x for name, x in arguments.items()}


def check_logits(library, rows, columns, depth):
    """`_logits` of a library, over slices, are float32 sums."""
    a = torch.randn(rows, depth + 3).bfloat16()[:, 1 : 1 + depth]
    w = torch.randn(columns + 1, depth + 1).bfloat16()[1:, :depth]
    out = torch.full((rows, columns), torch.nan)
    library._logits(a, w, out)
    error = (out - a.double() @ w.double().T).abs()
    assert (error <= 1e-6 * a.double().abs() @ w.double().abs().T).all()
