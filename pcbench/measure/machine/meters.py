"""Telemetry of NVIDIA (nvidia-ml-py) and AMD (amdsmi) GPUs; both packages are optional and imported when asked."""

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

import torch

from pcbench.measure.machine.telemetry import Meter, NoMeter, Reading
from pcbench.types import DeviceKind

__all__ = ["AmdsmiMeter", "NvmlMeter", "open_meter"]

T = TypeVar("T")

# bits of NVML that mean less speed than the clocks could give
NVML_THROTTLE = {
    "power_cap": "nvmlClocksThrottleReasonSwPowerCap",
    "hw_slowdown": "nvmlClocksThrottleReasonHwSlowdown",
    "sw_thermal": "nvmlClocksThrottleReasonSwThermalSlowdown",
    "hw_thermal": "nvmlClocksThrottleReasonHwThermalSlowdown",
    "power_brake": "nvmlClocksThrottleReasonHwPowerBrakeSlowdown",
}
AMD_THROTTLE = {
    "power_cap": "active_ppt_pwr",
    "hw_thermal": "active_prochot_thrm",
    "socket_thermal": "active_socket_thrm",
    "regulator_thermal": "active_vr_thrm",
    "memory_thermal": "active_hbm_thrm",
}
# by which a ROCm process sees fewer GPUs, the outer one first
AMD_VISIBLE = (("ROCR_VISIBLE_DEVICES",), ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"))


class NvmlMeter:
    """Readings by NVML.

    Args:
        nvml: the module `pynvml` of nvidia-ml-py, begun.
        uuid: of the GPU, as torch names it: without "GPU-".
    """

    name = "nvml"

    def __init__(self, nvml: Any, uuid: str) -> None:
        self.nvml = nvml
        self.handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")

    def read(self) -> Reading:
        nvml, gpu = self.nvml, self.handle
        power = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(gpu))
        reasons = self._ask(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu))
        return Reading(
            power_w=None if power is None else power / 1e3,
            sm_clock_mhz=self._ask(lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)),
            memory_clock_mhz=self._ask(lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM)),
            temperature_c=self._ask(lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
            used_bytes=self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(gpu).used),
            throttle=None
            if reasons is None
            else frozenset(name for name, bit in NVML_THROTTLE.items() if reasons & getattr(nvml, bit)),
        )

    def pids(self) -> list[int]:
        running = self._ask(lambda: self.nvml.nvmlDeviceGetComputeRunningProcesses(self.handle))
        return [process.pid for process in running or ()]

    def _ask(self, question: Callable[[], T]) -> T | None:
        """None where this GPU or driver does not answer."""
        try:
            return question()
        except self.nvml.NVMLError:
            return None


class AmdsmiMeter:
    """Readings by AMD SMI.

    Args:
        smi: the module `amdsmi`, begun.
        index: of the GPU among all of the machine.
    """

    name = "amdsmi"

    def __init__(self, smi: Any, index: int) -> None:
        self.smi = smi
        self.handle = smi.amdsmi_get_processor_handles()[index]

    def read(self) -> Reading:
        smi, gpu = self.smi, self.handle
        power = self._ask(lambda: smi.amdsmi_get_power_info(gpu)) or {}
        # older versions of the module have no such function
        knows = hasattr(smi, "amdsmi_get_violation_status")
        violations = (self._ask(lambda: smi.amdsmi_get_violation_status(gpu)) if knows else None) or {}
        # "N/A" is no answer
        told = {
            name: violations[field] for name, field in AMD_THROTTLE.items() if violations.get(field) in (True, False)
        }
        kind, now = smi.AmdSmiTemperatureType.HOTSPOT, smi.AmdSmiTemperatureMetric.CURRENT
        return Reading(
            # MI300 tells the one, MI200 the other
            power_w=_number(power.get("current_socket_power")) or _number(power.get("average_socket_power")),
            sm_clock_mhz=self._clock(smi.AmdSmiClkType.GFX),
            memory_clock_mhz=self._clock(smi.AmdSmiClkType.MEM),
            temperature_c=_number(self._ask(lambda: smi.amdsmi_get_temp_metric(gpu, kind, now))),
            used_bytes=self._ask(lambda: smi.amdsmi_get_gpu_memory_usage(gpu, smi.AmdSmiMemoryType.VRAM)),
            throttle=frozenset(name for name, active in told.items() if active) if told else None,
        )

    def pids(self) -> list[int]:
        running = self._ask(lambda: self.smi.amdsmi_get_gpu_process_list(self.handle))
        return [process["pid"] for process in running or ()]

    def _clock(self, kind: Any) -> float | None:
        found = self._ask(lambda: self.smi.amdsmi_get_clock_info(self.handle, kind)) or {}
        return _number(found.get("clk"))

    def _ask(self, question: Callable[[], T]) -> T | None:
        """None where this GPU or driver does not answer."""
        try:
            return question()
        except self.smi.AmdSmiException:
            return None


def open_meter(device: DeviceKind) -> Meter:
    """The telemetry of the GPU that torch computes on; `NoMeter` says why there is none."""
    if device == "cpu":
        return NoMeter("a CPU has none")
    index = torch.cuda.current_device()
    if device == "cuda":
        return _open_nvml(str(torch.cuda.get_device_properties(index).uuid))
    return _open_amdsmi(index, os.environ)


def _open_nvml(uuid: str) -> Meter:
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return NoMeter("no nvidia-ml-py; pip install nvidia-ml-py")
    try:
        nvml.nvmlInit()
        return NvmlMeter(nvml, uuid)
    except nvml.NVMLError as error:
        return NoMeter(f"NVML: {error}")


def _open_amdsmi(index: int, environ: Mapping[str, str]) -> Meter:
    try:
        smi = import_module("amdsmi")
    except (ImportError, OSError, KeyError) as error:
        # the package without its library raises one of the others
        return NoMeter(f"no amdsmi that loads ({error}); install the one of this ROCm")
    try:
        smi.amdsmi_init()
        return AmdsmiMeter(smi, _machine_index(index, environ))
    except (smi.AmdSmiException, LookupError, ValueError) as error:
        return NoMeter(f"amdsmi: {type(error).__name__} {error}")


def _machine_index(index: int, environ: Mapping[str, str]) -> int:
    """A process's GPU among all of the machine; ValueError where the variables do not name GPUs by number."""
    for names in reversed(AMD_VISIBLE):
        visible = next((environ[name] for name in names if environ.get(name)), None)
        if visible is not None:
            index = int(visible.split(",")[index])
    return index


def _number(value: object) -> float | None:
    """AMD SMI says "N/A" for what it does not know."""
    return float(value) if isinstance(value, int | float) else None
