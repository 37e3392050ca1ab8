"""Plans of a suite → cells whose method, config and backend are settled."""

from dataclasses import dataclass, field
from typing import Any

from pcbench.config import validate
from pcbench.errors import BadData, ConfigError, DataMissing, unknown_name
from pcbench.ops import compiled_backend
from pcbench.registry import METHODS, load
from pcbench.suites import AccuracySettings, Plan, Suite
from pcbench.tasks import load_task, size, why_not
from pcbench.tasks.scorecards.published import prompt_limit
from pcbench.types import Cell, DeviceKind, ModelSpec

__all__ = ["Effort", "Prepared", "prepare_cells"]


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
    """

    repeats: int = 1
    relative_error: float | None = None
    warmup_up_to: int = 1
    flush_caches: bool = False
    prompts: int = 0
    peak_passes: int = 3
    budget_bytes: int | None = None
    device_map: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A cell with the class and the resolved config that will run it.

    Args:
        cell: what becomes a record.
        method, config: its class and its resolved parameters.
        new_tokens: of an answer at most; None takes the task's own limit.
        where: the cell's table in the suite's file.
        missing: what is not here that its prompts or their scorer need; None where all is.
    """

    cell: Cell
    method: Any
    config: Any
    new_tokens: int | None
    where: str
    missing: str | None = None
    effort: Effort = field(default_factory=Effort)


def prepare_cells(suite: Suite, spec: ModelSpec, device: DeviceKind, limit: int | None = None) -> list[Prepared]:
    """Every cell of a suite, in the order of measurement.

    Args:
        suite: the merged suite.
        spec: its model.
        device: resolves "auto".
        limit: prompts per cell at most.

    Raises:
        ConfigError: a method's config or backend is wrong, by key path.
    """
    prepared = [_prepare(suite, plan, spec, device, limit) for plan in suite.plans()]
    seen: dict[str, Prepared] = {}
    for item in prepared:
        if item.cell.key in seen:
            raise ConfigError(f"{suite.where}: every cell once, got {item.cell.name} twice; remove one")
        seen[item.cell.key] = item
    return prepared


def _prepare(suite: Suite, plan: Plan, spec: ModelSpec, device: DeviceKind, limit: int | None) -> Prepared:
    settings, workload, table = suite.settings, plan.workload, plan.table
    method = load(METHODS, "method", table.method, f"{plan.where}.method")
    config = validate(method.Config, table.config, f"{plan.where}.config").resolve(spec, device, workload.task)
    prompts, missing = _prompts(suite, plan, spec)
    prompts = min(prompts, limit) if limit else prompts
    cell = Cell(
        suite=suite.name,
        kind=settings.kind,
        model=settings.model,
        method=table.method,
        method_config=config.model_dump(mode="json"),
        backend=_backend(plan, method.backends, device),
        device=device,
        dtype=settings.dtype,
        workload=workload.name,
        context_tokens=plan.context_tokens,
        seed=settings.seed,
        task=workload.task,
        repeats=min(prompts, settings.repeats_up_to or settings.repeats) if workload.timed else 0,
        timed=workload.timed,
        prompts=prompts,
        **_choices(settings, table.method, workload.task),
    )
    return Prepared(cell, method, config, workload.new_tokens, plan.where, missing, _effort(suite, plan, prompts))


def _choices(settings: Any, method: str, task: str) -> dict[str, Any]:
    """What a cell's prompts are made of; only accuracy suites choose."""
    if not isinstance(settings, AccuracySettings):
        return {}
    tokens = settings.prompt_tokens.get(method)
    limit = tokens if isinstance(tokens, int | None) else prompt_limit(settings.model, task, tokens)
    same = {name: getattr(settings, name) for name in ("templates", "chat", "chat_arguments", "thinking")}
    return {**same, "chat_date": settings.chat_date.isoformat(), "prompt_tokens": limit}


def _effort(suite: Suite, plan: Plan, prompts: int) -> Effort:
    settings = suite.settings
    if isinstance(settings, AccuracySettings):
        return Effort(device_map=settings.device_map)
    return Effort(
        repeats=min(settings.repeats, prompts),
        relative_error=settings.relative_error,
        warmup_up_to=settings.warmup_up_to,
        flush_caches=settings.flush_caches,
        prompts=plan.workload.prompts or 0,
        peak_passes=settings.peak_passes,
        budget_bytes=settings.budget_bytes,
    )


def _prompts(suite: Suite, plan: Plan, spec: ModelSpec) -> tuple[int, str | None]:
    """How many prompts a cell has, and what is not here that they need."""
    settings, workload = suite.settings, plan.workload
    if not isinstance(settings, AccuracySettings):
        most = settings.repeats_up_to or settings.repeats
        # answers of random weights are not scored
        asked = workload.prompts or 0 if spec.trained or not workload.timed else 0
        return max(most, asked) if workload.timed else asked or settings.repeats, None
    try:
        records = size(workload.task, plan.context_tokens)
    except DataMissing as error:
        return 0, str(error)
    except BadData:
        # the task's own error, which its first prompt meets
        return 0, None
    if spec.trained and (reason := why_not(load_task(workload.task, plan.where))):
        return 0, f"{workload.task}: {reason}"
    if records is None and workload.prompts is None:
        raise ConfigError(f"{suite.where}: suite.prompts: a number for {workload.task}, which is generated; add it")
    return min(n for n in (records, workload.prompts) if n is not None), None


def _backend(plan: Plan, backends: tuple[str, ...], device: DeviceKind) -> str:
    if plan.backend == "auto" and "ops" not in backends:
        return backends[0]
    known = ["reference", "cpu", "cuda", "hip", "auto"] if "ops" in backends else list(backends)
    if plan.backend not in known:
        raise unknown_name(f"{plan.where}.backend", f"backend of {plan.table.method}", plan.backend, known)
    return compiled_backend(device) if plan.backend == "auto" else plan.backend
