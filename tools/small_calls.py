"""The small cases of every op in every dtype on the GPU, for a checker that watches the kernels."""

import torch

from pcbench import ops
from pcbench.measure.kernels.cases import CASES, run

LARGEST_ELEMENTS = 1 << 18


@torch.inference_mode()
def main() -> None:
    for case in CASES:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            inputs = case.inputs("cuda", dtype)
            if sum(x.numel() for x in inputs.values() if isinstance(x, torch.Tensor)) <= LARGEST_ELEMENTS:
                run(ops, case.op, inputs)
                torch.cuda.synchronize()
                print(f"{case} {dtype}", flush=True)


if __name__ == "__main__":
    main()
