"""Suites that run in seconds, and a GPU's telemetry for machines without one."""

from pcbench.measure.machine.telemetry import Reading

SUITE = """
# A suite for tests.
[suite]
kind = "prefill"
repeats = 2
peak_passes = 1
context_tokens = [300, 600]
[device.cpu]
model = "random:tiny"
dtype = "float32"
[device.gpu]
model = "random:tiny"
dtype = "float32"
[[workload]]
name = "passkey"
task = "passkey"
new_tokens = 4
[[workload]]
name = "prose"
task = "passkey_prose"
timed = false
prompts = 2
context_tokens = [400]
new_tokens = 4
[[cell]]
method = "full"
backend = "torch"
[[cell]]
method = "parallel_comp"
backend = ["auto", "reference"]
reference_up_to = 400
[cell.config]
chunk_tokens = 128
keep = 1
"""

ACCURACY = """
# An accuracy suite for tests.
[suite]
kind = "accuracy"
tasks = ["passkey", "kv_retrieval"]
average = ["passkey", "kv_retrieval"]
prompts = 3
context_tokens = [300]
new_tokens = 4
[device.cpu]
model = "random:tiny"
dtype = "float32"
[device.gpu]
model = "random:tiny"
dtype = "float32"
[[cell]]
method = "full"
backend = "torch"
[[cell]]
method = "parallel_comp"
[cell.config]
chunk_tokens = 128
keep = 1
"""


class Meter:
    """A GPU whose power is capped, and that another process uses."""

    name = "fake"

    def read(self):
        return Reading(power_w=300.0, used_bytes=4 << 30, throttle=frozenset({"power_cap"}))

    def pids(self):
        # no ids of Linux, whose largest is 4194304
        return [7_000_001, 7_000_002]
