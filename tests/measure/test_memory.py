import subprocess
import sys

CODE = """
import torch
from pcbench.measure.memory import peak_bytes

def use():
    a = torch.ones(64 << 20, dtype=torch.uint8)
    del a
    return torch.ones(16 << 20, dtype=torch.uint8)

torch.ones(1 << 20).sum()
print(peak_bytes(use, torch.device("cpu")))
"""


def test_peak_bytes_is_the_highest_point_of_the_call():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert 60 << 20 < int(done.stdout) < 90 << 20
