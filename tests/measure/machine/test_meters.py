import builtins
import inspect
import re
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pynvml
import pytest
import torch

from pcbench.measure.machine import environment, meters
from pcbench.measure.machine.meters import AmdsmiMeter, NvmlMeter, open_meter
from pcbench.measure.machine.telemetry import NoMeter, Reading


class NVMLError(Exception):
    pass


def refuse(*_):
    raise NVMLError("not supported")


class Nvml(ModuleType):
    """The functions of NVML that are used, answering as a busy H200 might."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self):
        super().__init__("pynvml")
        self.begun = 0
        vars(self).update({bit: getattr(pynvml, bit) for bit in meters.NVML_THROTTLE.values()})

    def nvmlInit(self):
        self.begun += 1

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid != "GPU-abc":
            raise NVMLError("Not Found")
        return "gpu"

    def nvmlDeviceGetPowerUsage(self, gpu):
        return 412_500

    def nvmlDeviceGetClockInfo(self, gpu, kind):
        return {1: 1980, 2: 3201}[kind]

    def nvmlDeviceGetTemperature(self, gpu, kind):
        return 61

    def nvmlDeviceGetMemoryInfo(self, gpu):
        return SimpleNamespace(used=5 << 30)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu):
        # idle and an application's setting are no throttling
        return 0x1 | 0x2 | 0x4 | 0x40

    def nvmlDeviceGetComputeRunningProcesses(self, gpu):
        return [SimpleNamespace(pid=3), SimpleNamespace(pid=5)]


class AmdSmiException(Exception):
    pass


class Smi(ModuleType):
    """The functions of AMD SMI that are used, answering as an MI300X might."""

    AmdSmiException = AmdSmiException
    AmdSmiClkType = SimpleNamespace(GFX="gfx", MEM="mem")
    AmdSmiTemperatureType = SimpleNamespace(HOTSPOT="hotspot")
    AmdSmiTemperatureMetric = SimpleNamespace(CURRENT="current")
    AmdSmiMemoryType = SimpleNamespace(VRAM="vram")

    def __init__(self):
        super().__init__("amdsmi")
        self.power = {"current_socket_power": 550, "average_socket_power": "N/A"}

    def amdsmi_init(self):
        pass

    def amdsmi_get_processor_handles(self):
        return ["first", "second", "third"]

    def amdsmi_get_power_info(self, gpu):
        return self.power

    def amdsmi_get_violation_status(self, gpu):
        return {"active_ppt_pwr": True, "active_socket_thrm": False, "active_hbm_thrm": "N/A"}

    def amdsmi_get_clock_info(self, gpu, kind):
        return {"gfx": {"clk": 2100}, "mem": {"clk": "N/A"}}[kind]

    def amdsmi_get_temp_metric(self, gpu, kind, metric):
        return 70

    def amdsmi_get_gpu_memory_usage(self, gpu, kind):
        return 6 << 30

    def amdsmi_get_gpu_process_list(self, gpu):
        return [{"pid": 11, "name": "python"}]


@pytest.fixture
def nvml(monkeypatch):
    module = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


@pytest.fixture
def smi(monkeypatch):
    module = Smi()
    monkeypatch.setitem(sys.modules, "amdsmi", module)
    return module


@pytest.fixture
def gpu(monkeypatch):
    """torch as it is where a GPU is."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="abc"))
    for name in {name for names in meters.AMD_VISIBLE for name in names}:
        monkeypatch.delenv(name, raising=False)


def test_nvml_readings_have_units_and_reasons(nvml):
    meter = NvmlMeter(nvml, "abc")
    assert meter.read() == Reading(
        power_w=412.5,
        sm_clock_mhz=1980,
        memory_clock_mhz=3201,
        temperature_c=61,
        used_bytes=5 << 30,
        throttle=frozenset({"power_cap", "hw_thermal"}),
    )
    assert meter.pids() == [3, 5]


def test_what_nvml_does_not_support_is_none(nvml, monkeypatch):
    meter = NvmlMeter(nvml, "abc")
    for name in ("PowerUsage", "ClockInfo", "CurrentClocksThrottleReasons", "ComputeRunningProcesses"):
        monkeypatch.setattr(nvml, f"nvmlDeviceGet{name}", refuse)
    assert meter.read() == Reading(temperature_c=61, used_bytes=5 << 30)
    assert meter.pids() == []


def test_the_real_package_has_what_is_called():
    source = inspect.getsource(NvmlMeter) + inspect.getsource(meters._open_nvml)
    called = {*re.findall(r"nvml\.(\w+)", source), *meters.NVML_THROTTLE.values()}
    assert {"nvmlInit", "nvmlDeviceGetPowerUsage", "NVML_CLOCK_SM", "NVMLError"} <= called
    assert {name for name in called if not hasattr(pynvml, name)} == set()
    assert issubclass(pynvml.NVMLError, Exception)


def test_amdsmi_readings_have_units_and_reasons(smi):
    meter = AmdsmiMeter(smi, 0)
    assert meter.read() == Reading(
        power_w=550, sm_clock_mhz=2100, temperature_c=70, used_bytes=6 << 30, throttle=frozenset({"power_cap"})
    )
    assert meter.pids() == [11]
    smi.power = {"current_socket_power": "N/A", "average_socket_power": 480}
    assert meter.read().power_w == 480


def test_an_amdsmi_without_violations_tells_the_rest(smi, monkeypatch):
    whole = AmdsmiMeter(smi, 0).read()
    monkeypatch.setattr(
        Smi, "amdsmi_get_violation_status", lambda *_: dict.fromkeys(meters.AMD_THROTTLE.values(), "N/A")
    )
    assert AmdsmiMeter(smi, 0).read() == replace(whole, throttle=None)
    monkeypatch.delattr(Smi, "amdsmi_get_violation_status")
    assert AmdsmiMeter(smi, 0).read() == replace(whole, throttle=None)


def test_what_amdsmi_does_not_support_is_none(smi, monkeypatch):
    def no(*_):
        raise AmdSmiException("AMDSMI_STATUS_NOT_SUPPORTED")

    meter = AmdsmiMeter(smi, 0)
    for name in ("power_info", "violation_status", "clock_info", "temp_metric", "gpu_memory_usage", "gpu_process_list"):
        monkeypatch.setattr(smi, f"amdsmi_get_{name}", no)
    assert meter.read() == Reading()
    assert meter.pids() == []


@pytest.mark.parametrize(
    ("variables", "handle"),
    [
        ({}, "first"),
        ({"HIP_VISIBLE_DEVICES": "2"}, "third"),
        ({"CUDA_VISIBLE_DEVICES": "1,0"}, "second"),
        ({"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "1"}, "third"),
    ],
)
def test_open_meter_finds_the_amd_gpu_that_the_process_sees(smi, gpu, monkeypatch, variables, handle):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    meter = open_meter("rocm")
    assert (meter.name, meter.handle) == ("amdsmi", handle)


def test_open_meter_begins_nvml_for_the_gpu_of_torch(nvml, gpu):
    meter = open_meter("cuda")
    assert (meter.name, meter.handle, nvml.begun) == ("nvml", "gpu", 1)


def test_a_cpu_has_no_telemetry():
    assert open_meter("cpu").name == environment.provenance("cpu")["telemetry"] == "none"


@pytest.mark.parametrize(
    ("device", "module", "reason"), [("cuda", "pynvml", "no nvidia-ml-py"), ("rocm", "amdsmi", "no amdsmi that loads")]
)
def test_without_the_package_the_reason_is_said(gpu, monkeypatch, device, module, reason):
    real = builtins.__import__
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(meters, "import_module", lambda name: real("a_module_that_is_not_there"))
    meter = open_meter(device)
    assert isinstance(meter, NoMeter)
    assert meter.reason.startswith(reason)


@pytest.mark.parametrize("error", [KeyError("libamd_smi.so"), OSError("libamd_smi.so: cannot open")])
def test_amdsmi_without_its_library_is_no_telemetry(gpu, monkeypatch, error):
    def raises(name):
        raise error

    monkeypatch.setattr(meters, "import_module", raises)
    assert "libamd_smi.so" in open_meter("rocm").reason


def test_a_gpu_that_the_driver_does_not_name_is_no_telemetry(nvml, gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="other"))
    assert open_meter("cuda").reason == "NVML: Not Found"
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "GPU-1234")
    monkeypatch.setitem(sys.modules, "amdsmi", Smi())
    assert open_meter("rocm").reason.startswith("amdsmi: ValueError")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_the_real_nvml_package_without_a_driver_is_no_telemetry(gpu):
    meter = open_meter("cuda")
    assert isinstance(meter, NoMeter)
    assert meter.reason.startswith("NVML: ")
