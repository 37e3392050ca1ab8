import os
import threading

import pytest

from pcbench.measure.machine import telemetry
from pcbench.measure.machine.telemetry import NoMeter, Reading, driver_bytes, others_on_gpu, sampled, summary, throttled


class Counting:
    """A meter whose readings are numbered by their temperature."""

    name = "fake"

    def __init__(self, pids=()):
        self.taken, self.running = 0, list(pids)
        self.third = threading.Event()
        self.threads = set()

    def read(self):
        self.taken += 1
        self.threads.add(threading.current_thread())
        if self.taken >= 3:
            self.third.set()
        return Reading(temperature_c=self.taken)

    def pids(self):
        return self.running


def test_sampled_reads_in_a_thread_while_the_block_runs_and_once_after_it():
    meter, readings = Counting(), []
    with sampled(meter, readings, interval_s=0.001):
        assert meter.third.wait(60)
    assert [r.temperature_c for r in readings] == list(range(1, meter.taken + 1))
    assert len(meter.threads) == 2
    taken = meter.taken
    assert taken >= 4
    assert not any(thread.is_alive() for thread in meter.threads - {threading.current_thread()})


def test_a_block_shorter_than_the_interval_has_one_reading():
    meter, readings = Counting(), []
    with sampled(meter, readings, interval_s=3600):
        pass
    assert len(readings) == 1


def test_without_telemetry_there_is_no_thread_and_no_reading(monkeypatch):
    monkeypatch.setattr(telemetry, "ThreadPoolExecutor", None)
    readings = []
    with sampled(NoMeter("a CPU has none"), readings):
        pass
    assert readings == []
    assert NoMeter("x").name == "none"


def test_what_goes_wrong_in_a_reading_is_not_swallowed():
    class Wrong(Counting):
        def read(self):
            self.third.set()
            raise RuntimeError("a reading")

    meter = Wrong()
    with pytest.raises(RuntimeError, match="a reading"), sampled(meter, [], interval_s=0.001):
        assert meter.third.wait(60)


def test_an_error_of_the_block_ends_the_sampling():
    meter = Counting()
    with pytest.raises(KeyError), sampled(meter, [], interval_s=0.001):
        raise KeyError
    assert all(not t.is_alive() for t in meter.threads - {threading.current_thread()})


def test_summary_is_of_what_the_readings_know():
    readings = [
        Reading(power_w=300.0, sm_clock_mhz=1980, temperature_c=60, throttle=frozenset({"power_cap"})),
        Reading(power_w=500.0, sm_clock_mhz=1410, temperature_c=71, throttle=frozenset({"power_cap", "hw_thermal"})),
        Reading(sm_clock_mhz=1700, temperature_c=65, used_bytes=7, throttle=frozenset()),
        Reading(throttle=frozenset()),
        Reading(used_bytes=9),
    ]
    assert summary(readings) == {
        "readings": 5,
        "power_w_p50": 400.0,
        "power_w_max": 500.0,
        "sm_clock_mhz_min": 1410,
        "sm_clock_mhz_max": 1980,
        "temperature_c_max": 71,
        "throttled_ratio": 0.5,
        "throttled": "hw_thermal, power_cap",
    }
    assert driver_bytes(readings) == 9
    assert throttled(readings) == "the GPU was throttled in 50% of 4 readings: hw_thermal, power_cap"


def test_without_readings_there_is_no_summary():
    assert (summary([]), driver_bytes([]), throttled([])) == (None, None, None)
    assert throttled([Reading(throttle=frozenset())]) is None


def test_a_driver_that_does_not_tell_of_throttling_is_no_driver_that_saw_none():
    assert summary([Reading(power_w=1.0)]) == {"readings": 1, "power_w_p50": 1.0, "power_w_max": 1.0}
    assert throttled([Reading(power_w=1.0)]) is None


# Linux gives no process an id above 4194304
@pytest.mark.parametrize(
    ("pids", "said"),
    [
        ([], None),
        (["own"], None),
        (["own", 7_000_007], "1 other process on the GPU: 7000007"),
        (["parent", 7_000_009, 7_000_007], "2 other processes on the GPU: 7000007, 7000009"),
        # ids of another namespace: one of them is this process
        ([7_000_001], None),
        ([7_000_002, 7_000_001], "1 other process on the GPU: 7000002"),
    ],
)
def test_others_on_gpu_leaves_out_this_run(pids, said):
    named = {"own": os.getpid(), "parent": os.getppid()}
    assert others_on_gpu(Counting(named.get(pid, pid) for pid in pids)) == said
