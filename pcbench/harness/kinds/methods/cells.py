"""Plans of a suite → cells whose method, config and backend are settled."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from pcbench.config import attention_of, validate
from pcbench.engines import parsed
from pcbench.errors import ConfigError, DataMissing, unknown_name
from pcbench.harness.kinds.called import called
from pcbench.harness.kinds.cells import titled
from pcbench.harness.kinds.methods.settings import MethodSuite, Plan
from pcbench.models.layers.quantize import why_absent
from pcbench.ops import automatic_backend
from pcbench.ops.isa import fastest_dtype
from pcbench.registry import METHODS, load
from pcbench.tasks import load_task
from pcbench.types import Cell, Cost, DeviceKind, ModelSpec

__all__ = ["Effort", "MethodCells", "Prepared", "Rules"]


@dataclass(frozen=True)
class Rules:
    """In what the kinds differ that measure methods.

    Args:
        scored: answers are; else decoding goes on to a fixed length, or one prompt says nothing.
        fixed_length: nothing ends an answer but its limit.
        peak: peak memory of timed cells, or of all, which without it have no result.
    """

    scored: bool = True
    fixed_length: bool = False
    peak: Literal["timed", "needed"] | None = None


@dataclass(frozen=True)
class Effort:
    """How a cell is measured; none of it is part of what it is.

    Args:
        repeats: timed passes before the stop rule is asked.
        relative_error: the rule's; None takes every prompt.
        warmup_up_to: untimed passes at most.
        flush_caches: before every timed pass.
        prompts: answered at least, those behind the last timed pass too.
        peak_passes: for peak memory.
        budget_bytes: for what `fit.fit` asks; None does not ask.
        device_map: of the model's weights; None puts them on one device.
        engine_timeout_s: that an answer of a serving engine may take.
        sdpa: the kernel of torch's SDPA that stock code prefills by; None leaves it to torch.
        rules: of the kind of measurement.
    """

    repeats: int = 1
    relative_error: float | None = None
    warmup_up_to: int = 1
    flush_caches: bool = False
    prompts: int = 0
    peak_passes: int = 3
    budget_bytes: int | None = None
    device_map: str | None = None
    engine_timeout_s: float = 600.0
    sdpa: str | None = None
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True)
class Prepared:
    """A cell with the class and the resolved config that will run it.

    Args:
        cell: what becomes a record.
        method, config: its class and its resolved parameters.
        task: its task, or what else its kind reads, as it was when the run was planned.
        new_tokens: of an answer at most; None takes the task's own limit.
        where: the cell's table in the suite's file.
        missing: what is not here that it, its prompts or their scorer need; None where all is.
        resolved: whether the config is; not where it lacks something.
    """

    cell: Cell
    method: Any
    config: Any
    task: Any
    new_tokens: int | None
    where: str
    missing: str | None = None
    resolved: bool = True
    effort: Effort = field(default_factory=Effort)

    @property
    def attention(self) -> str | None:
        """As `attention_of` has it."""
        return attention_of(self.config)

    def cost(self, spec: ModelSpec, tokens: int) -> Cost:
        """Of a prompt of `tokens`, as the method's config says; nothing where it could not be resolved.

        Raises:
            ConfigError: the config is another package's and cannot say it.
        """

        if not self.resolved:
            return Cost(flops=0.0, kv_tokens=0)

        def asked() -> Cost:
            found = self.config.cost(spec, tokens)
            return Cost(flops=found.flops, kv_tokens=found.kv_tokens)

        return called(self.cell.method, "cost", asked)


@dataclass(frozen=True)
class MethodCells:
    """Plans of a suite of methods → its cells.

    Args:
        suite: the merged suite.
        spec: its model.
        device: resolves "auto".
        limit: prompts per cell at most.
        rules: of the suite's kind.
    """

    suite: MethodSuite
    spec: ModelSpec
    device: DeviceKind
    limit: int | None
    rules: Rules

    def all(self) -> list[Prepared]:
        """Every cell, in the order of measurement.

        Raises:
            ConfigError: a method's config or backend is wrong, by key path, or engines have nothing to be held against.
        """
        engines = getattr(self.suite.settings, "engines", None) or ()
        cells = [item for plan in self.suite.plans() for item in self._prepared(plan)]
        return titled(self.suite.where, _with_engines(self.suite.where, cells, engines) if engines else cells)

    def task(self, plan: Plan) -> tuple[str, Any]:
        """What a cell reads: its name, and what that is now."""
        return plan.workload.task, load_task(plan.workload.task, plan.where)

    def choices(self, plan: Plan) -> dict[str, Any]:
        """Further fields of a cell."""
        return {"compile": getattr(self.suite.settings, "compile", False)}

    def effort(self, plan: Plan, prompts: int) -> Effort:
        """How a cell of so many prompts is measured."""
        settings = self.suite.settings
        return Effort(
            repeats=min(settings.repeats, prompts),
            relative_error=settings.relative_error,
            warmup_up_to=settings.warmup_up_to,
            flush_caches=settings.flush_caches,
            prompts=plan.workload.prompts or 0,
            peak_passes=settings.peak_passes,
            budget_bytes=settings.budget_bytes,
            engine_timeout_s=settings.engine_timeout_s,
            rules=self.rules,
        )

    def repeats(self, prompts: int) -> int:
        """Timed passes of a cell of so many prompts at most."""
        return min(prompts, self.suite.settings.repeats_up_to or self.suite.settings.repeats)

    def prompts(self, plan: Plan) -> tuple[int, str | None]:
        """How many a cell has, and what is not here that they need."""
        settings, workload = self.suite.settings, plan.workload
        most = settings.repeats_up_to or settings.repeats
        # answers of random weights are not scored
        asked = workload.prompts or 0 if self.spec.trained or not workload.timed else 0
        return max(most, asked) if workload.timed else asked or settings.repeats, None

    def _prepared(self, plan: Plan) -> Iterator[Prepared]:
        """The cell of a plan, at every size that it or the suite asks for."""
        name = plan.table.method
        method = load(METHODS, "method", name, f"{plan.where}.method")
        for table in _chunk_sizes(plan.table.config, self.spec):
            config = validate(method.Config, table, f"{plan.where}.config")
            for sized in called(name, "sized", partial(_sizes, config, self.suite.settings.kv_tokens)):
                yield self._prepare(plan, method, sized)

    def _prepare(self, plan: Plan, method: Any, config: Any) -> Prepared:
        settings, workload, table = self.suite.settings, plan.workload, plan.table
        absent = None
        try:
            config, dumped = called(
                table.method, "resolve", lambda: _resolved(config, self.spec, self.device, workload.task)
            )
        except DataMissing as error:
            absent, dumped = str(error), config.model_dump(mode="json")
        name, task = self.task(plan)
        prompts, missing = self.prompts(plan)
        prompts = min(prompts, self.limit) if self.limit else prompts
        cell = Cell(
            suite=self.suite.name,
            kind=settings.kind,
            model=settings.model,
            method=table.method,
            label=table.label,
            method_config=dumped,
            backend=_backend(plan, method.backends, self.device, self.spec.head_dim),
            device=self.device,
            dtype=fastest_dtype(self.device) if settings.dtype == "auto" else settings.dtype,
            workload=workload.name,
            context_tokens=plan.context_tokens,
            seed=settings.seed,
            task=name,
            repeats=self.repeats(prompts) if workload.timed else 0,
            timed=workload.timed,
            prompts=prompts,
            quantize=plan.quantize,
            **self.choices(plan),
        )
        effort = self.effort(plan, prompts)
        library = why_absent(plan.quantize) if plan.quantize else None
        lacks, resolved = library or missing or absent, absent is None
        return Prepared(cell, method, config, task, workload.new_tokens, plan.where, lacks, resolved, effort)


def _with_engines(where: str, cells: Sequence[Prepared], engines: Sequence[str]) -> list[Prepared]:
    """Behind every timed cell of full attention over own weights one of each engine, which gets the same prompts.

    Args:
        where: the suite's file.
        cells: of a run.
        engines: as of --engine.

    Raises:
        ConfigError: an engine that is none, or nothing whose answers theirs could be held against.
    """
    if not any(prepared.cell.is_full and prepared.cell.timed for prepared in cells):
        raise ConfigError(
            f"{where}: suite.engines: a timed cell of full attention, whose answers those of an engine must be, got "
            "none; add --method full"
        )
    kinds = {engine: parsed(engine, f"{where}: suite.engines")[0] for engine in engines}
    found = []
    for prepared in cells:
        found.append(prepared)
        # nobody quantises what an engine serves
        if prepared.cell.is_full and prepared.cell.timed and prepared.cell.quantize is None:
            for engine, kind in kinds.items():
                cell = replace(prepared.cell, backend=kind, engine=engine, label=f"Full attention by {engine}")
                found.append(replace(prepared, cell=cell))
    return found


def _chunk_sizes(config: dict[str, Any], spec: ModelSpec) -> list[dict[str, Any]]:
    """The config with each of its `chunk_tokens`; of several, those beyond the trained length are left out."""
    sizes = config.get("chunk_tokens")
    if not isinstance(sizes, list) or not sizes:
        return [config]
    # what is no number is refused with the rest of the config
    fitting = [size for size in sizes if not isinstance(size, int) or size <= spec.trained_tokens]
    return [config | {"chunk_tokens": size} for size in fitting or [min(sizes)]]


def _sizes(config: Any, kv_tokens: Sequence[int] | None) -> list[Any]:
    """The config with each number of keys a kv-head, each once; as it is where nobody asks or it has no size."""
    if not kv_tokens or not hasattr(config, "sized"):
        return [config]
    found = [config.sized(tokens) for tokens in kv_tokens]
    return [one for i, one in enumerate(found) if one not in found[:i]]


def _resolved(config: Any, spec: ModelSpec, device: DeviceKind, task: str) -> tuple[Any, dict[str, Any]]:
    """The config that runs, and what the record shows of it."""
    resolved = config.resolve(spec, device, task)
    return resolved, resolved.model_dump(mode="json")


def _backend(plan: Plan, backends: tuple[str, ...], device: DeviceKind, head_dim: int) -> str:
    if plan.backend == "auto" and "ops" not in backends:
        return backends[0]
    known = ["reference", "cpu", "cuda", "hip", "triton", "auto"] if "ops" in backends else list(backends)
    if plan.backend not in known:
        raise unknown_name(f"{plan.where}.backend", f"backend of {plan.table.method}", plan.backend, known)
    return automatic_backend(device, head_dim) if plan.backend == "auto" else plan.backend
