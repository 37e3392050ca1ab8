"""Methods on a model: what prefill, memory and throughput share, and in what they differ."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pcbench.errors import ConfigError, DataMissing
from pcbench.harness.kinds import Estimate, Kind, Narrowed, Session
from pcbench.harness.kinds.methods.cells import MethodCells, Prepared, Rules
from pcbench.harness.kinds.methods.estimate import estimates, probe
from pcbench.harness.kinds.methods.session import ModelSession
from pcbench.harness.kinds.methods.settings import MethodSuite, method_suite
from pcbench.harness.kinds.methods.sizes import check_prompts
from pcbench.harness.processes import ranks
from pcbench.models import model_spec
from pcbench.suites import Source
from pcbench.types import DeviceKind, ModelSpec, Record

__all__ = ["Memory", "Methods", "Prefill", "Throughput"]


class Methods(Kind):
    """Cells that are methods on a model; its kinds differ in their `rules`."""

    rules: ClassVar[Rules]
    makes: ClassVar[type[MethodCells]] = MethodCells

    suite: MethodSuite
    cells: list[Prepared]
    spec: ModelSpec

    def __init__(self, suite: MethodSuite, device: DeviceKind, limit: int | None) -> None:
        self.suite, self.limit = suite, limit
        if self.rules.peak == "needed" and suite.settings.compile:
            raise ConfigError(
                f"{suite.where}: suite.compile: false where peak memory is measured, in which the compiler's would be, "
                "got true; leave it out"
            )
        if self.rules.peak == "needed" and suite.settings.engines:
            raise ConfigError(
                f"{suite.where}: suite.engines: a suite of kind prefill or throughput, got {suite.settings.kind}; "
                "leave it out"
            )
        if getattr(suite.settings, "engines", None) and ranks.ranks() > 1:
            raise ConfigError(
                f"{suite.where}: suite.engines: one rank, got {ranks.ranks()}, which would ask them at the same time; "
                "leave torchrun or the engines out"
            )
        quantize = suite.settings.quantize
        if quantize and getattr(suite.settings, "compile", False):
            raise ConfigError(f"{suite.where}: suite.compile or suite.quantize, got both; leave one of them out")
        if quantize and getattr(suite.settings, "device_map", None):
            raise ConfigError(f"{suite.where}: suite.device_map or suite.quantize, got both; leave one of them out")
        self.spec = model_spec(suite.settings.model)
        self.cells = self.makes(suite, self.spec, device, limit, self.rules).all()
        missing = [prepared.missing for prepared in self.cells if prepared.cell.quantize == quantize]
        if all(missing):
            raise DataMissing(missing[0])
        check_prompts(suite.where, self.cells, self.spec)

    @classmethod
    def read(cls, source: Source, model: str | None, methods: Sequence[str]) -> MethodSuite:
        return method_suite(source, model, methods, scored=cls.rules.scored)

    def session(self, folder: Path, shared: dict[str, Any]) -> Session:
        return ModelSession(self.spec, shared)

    def narrowed(self, prepared: Prepared) -> Narrowed:
        cell = prepared.cell
        workload = next(w for w in self.suite.workloads if w.name == cell.workload)
        path = "suite" if workload.context_tokens is None else f"workload.{workload.name}"
        sets = [f'suite.workloads=["{workload.name}"]', f"{path}.context_tokens=[{cell.context_tokens}]"]
        if self.suite.settings.dtype == "auto":
            # elsewhere it might be another
            sets.append(f"suite.dtype={cell.dtype}")
        return Narrowed(sets)

    def estimates(self) -> Iterator[Estimate]:
        return estimates(self.cells, self.spec, probe(self.cells))

    def fixed(self) -> dict[str, list[Any]]:
        return super().fixed() | {"new_tokens": [prepared.new_tokens for prepared in self.cells]}

    def is_finished(self, record: Record) -> bool:
        return super().is_finished(record) and not record.skipped_records


class Prefill(Methods):
    """Times of prefills, peak memory beside them, and scores."""

    rules = Rules(peak="timed")


class Memory(Methods):
    """Peak memory, without which a cell has no result."""

    rules = Rules(scored=False, peak="needed")


class Throughput(Methods):
    """Times of prefills and of answers of a fixed length."""

    rules = Rules(scored=False, fixed_length=True)
