"""Triton's kernels against the float64 reference, in a process of its own: python tests/triton_parity.py DTYPE [DEVICE]

On the CPU, which is the default, by Triton's interpreter. One line a result; exit code 1 where one is wrong.
"""

import os
import sys
import warnings
from functools import partial

import torch

from pcbench import ops
from pcbench.measure.kernels.attention_cases import cached, calibrated, decode, window
from pcbench.measure.kernels.cases import CASES, Case, check_case
from pcbench.measure.kernels.key_mass_cases import key_mass
from pcbench.measure.kernels.quantized_cases import quantized

STORE = {"lengths": [[37], [20]], "slots": [[0, 1]], "heads": 2}
# head dims that no compiled kernel has: parts of a power of two, and all of the largest
DIMS = [
    *(
        Case("calibrated_attention", f"D {d}", partial(calibrated, rows=40, keys=40, dim=d))
        for d in (80, 112, 192, 256)
    ),
    *(Case("cached_attention", f"D {d}", partial(cached, rows=1, dim=d, **STORE)) for d in (80, 256)),
    *(Case("decode_attention", f"D {d}", partial(decode, lengths=[[33, 20]], dim=d)) for d in (112, 192)),
    *(Case("key_mass", f"D {d}", partial(key_mass, rows=40, keys=40, dim=d)) for d in (80, 192)),
    *(
        Case("quantized_attention", f"{kv_dtype}, D {d}", partial(quantized, kv_dtype=kv_dtype, rows=3, dim=d, **STORE))
        for kv_dtype, d in (("int4", 80), ("fp8", 112), ("int8", 256))
    ),
    *(Case("window_mass", f"D {d}", partial(window, rows=9, longest=40, dim=d, **STORE)) for d in (112, 256)),
]
ODD = """
calibrated_attention: 0 keys | 1 keys | 33 keys | 65 keys, all visible | D 64 | D 96 | D 128 | G 8 | no mass
calibrated_attention: more keys than rows | more rows than keys | mass of every row | rows without keys
calibrated_attention: unequal lengths | unequal keys, all visible | all keys evicted | sliced | very large scores
calibrated_attention: incoming state | incoming state, nothing new | incoming state, unequal lengths
calibrated_attention: keys evicted by query head | an attention sink, first | an attention sink, last
calibrated_attention: a NaN in a query | a NaN in a key | an infinity in a key
cached_attention: decode, 1 keys | decode, 33 keys | decode, D 128 | query, all visible | query, more rows than own keys
cached_attention: some keys evicted | decode, keys that heads share | kernels of D 96, 40 rows
decode_attention: 0 keys | 65 keys | nothing to report
key_mass: G 16 | no rows | rows that see nothing | unequal lengths | other rows are anything | large scores
merge_states: 0 parts | 9 parts | D 3 | D 80 | parts without keys | sliced
quantized_attention: 31 keys | 65 keys | batch with unused places | keys evicted by query head | sliced
quantized_attention: int4, D 96, 20 rows | int4, D 64, 1 rows | fp8, D 128, 1 rows | int8, D 64, 40 rows
window_mass: query | one row | more rows than own keys | batch with unused places | nothing to report | sliced
"""


def chosen() -> list[Case]:
    """Cases that differ in what the kernels do."""
    known = {(case.op, case.name): case for case in CASES}
    lines = [line.split(": ", 1) for line in ODD.strip().splitlines()]
    return [known[op, name] for op, names in lines for name in names.split(" | ")] + DIMS


def main() -> int:
    dtype, device = (*sys.argv[1:], "cpu")[:2]
    if device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    backend, wrong = ops.backend("triton"), 0
    torch.set_grad_enabled(False)
    # the interpreter's numpy, of infinities and NaN
    warnings.simplefilter("ignore", RuntimeWarning)
    for case in chosen():
        for result, comparison in check_case(case, backend, device, getattr(torch, dtype)).items():
            wrong += not comparison.ok
            print(
                "ok  " if comparison.ok else "FAIL", f"{case}: {result} {comparison.err:.2g} of {comparison.bound:.2g}"
            )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
