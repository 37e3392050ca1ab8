"""`pcbench doctor`: what this machine and build can run, and why not."""

from dataclasses import dataclass
from typing import get_args

from pcbench import ops, registry
from pcbench.errors import PcbenchError
from pcbench.extensions import GROUPS, extensions
from pcbench.measure.machine.devices import Build
from pcbench.measure.machine.environment import environment
from pcbench.measure.machine.meters import open_meter
from pcbench.measure.machine.telemetry import NoMeter
from pcbench.models import model_spec, smollm2
from pcbench.ops.providers import PROVIDERS
from pcbench.suites import load_suite
from pcbench.tasks import load_task
from pcbench.types import DeviceKind

__all__ = ["Finding", "diagnose"]

# groups of entry points that are objects
OBJECTS = {table.group: table for table in (registry.METHODS, registry.GENERATORS, registry.SCORERS, registry.KINDS)}


@dataclass(frozen=True)
class Finding:
    """One line: a subject, whether it can be used, and what or why not."""

    subject: str
    usable: bool
    detail: str


def diagnose() -> list[Finding]:
    """Machine, devices, backends, model and what other packages bring, one line each."""
    build = Build.here()
    findings = []
    for kind in get_args(DeviceKind):
        why = build.why_not(kind)
        findings.append(Finding(f"device {kind}", why is None, why or "usable"))
    here = environment("cpu")
    findings.insert(0, Finding("machine", True, f"{here['cpu']}, {here['threads']} threads, {here['arch']}"))
    findings.insert(1, Finding("torch", True, f"{here['torch']}, Python {here['python']}"))
    for name in ("cpu", "cuda", "hip", "triton"):
        why = ops.why_not(name)
        findings.append(Finding(f"backend {name}", why is None, why or "kernels loaded"))
    device = next((kind for kind in ("cuda", "rocm") if build.why_not(kind) is None), "cpu")
    for name, provider in PROVIDERS.items():
        why = provider.why_not("cpu" if device == "cpu" else "cuda")
        findings.append(Finding(f"attention {name}", why is None, why or f"for chunks on {device}"))
    for kind in get_args(DeviceKind):
        if kind != "cpu" and build.why_not(kind) is None:
            meter = open_meter(kind)
            why = meter.reason if isinstance(meter, NoMeter) else None
            findings.append(Finding(f"telemetry {kind}", why is None, why or meter.name))
    installed = smollm2.is_installed()
    findings.append(Finding(f"model {smollm2.NAME}", installed, "installed" if installed else smollm2.INSTALL))
    return findings + [_extension(group, name) for group in GROUPS for name in extensions(group)]


def _extension(group: str, name: str) -> Finding:
    """Whether what another package brings can be used; it is loaded as a run would."""
    subject = f"{group[:-1]} {name}"
    try:
        if group == "suites":
            load_suite(name, "cpu")
        elif group == "models":
            model_spec(name)
        elif group == "tasks":
            task = load_task(name, "doctor")
            registry.load(registry.GENERATORS, "generator", task.generator, f"{subject}: generator")
            registry.load(registry.SCORERS, "scorer", task.scorer, f"{subject}: scorer")
        else:
            registry.load(OBJECTS[group], group[:-1], name, "doctor")
    except PcbenchError as error:
        return Finding(subject, False, str(error))
    return Finding(subject, True, f"of {extensions(group)[name][0].package}")
