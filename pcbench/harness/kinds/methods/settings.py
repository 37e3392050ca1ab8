"""Suites of methods: workloads × lengths × methods × backends."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from pcbench.config import Context, Count, Repeats, Seconds, Seed, Table, every_key_optional, validate
from pcbench.errors import ConfigError, unknown_name
from pcbench.registry import METHODS, WITHOUT_DEFAULTS, task_tables
from pcbench.suites.files import Change, Source, Suite, known, set_settings
from pcbench.types.measured import FULL

__all__ = ["CellTable", "Merge", "MethodChoice", "MethodSuite", "Plan", "Workload", "method_suite"]


class MethodChoice(Table):
    """Keys of `[suite]` that put methods side by side.

    Args:
        methods: a cell of each of these, with its defaults, in place of the file's cells; "all" are those of pcbench
            that need no option, and those of installed packages.
        kv_tokens: keys that a kv-head stores of a prompt: of every method whose size can be chosen a cell with each,
            but where the cell says its size.
        quantize: linear layers of the model in 8 or 4 bits, for every method; `full` is measured before with weights
            as they are, in groups of its own.
    """

    methods: Literal["all"] | Annotated[list[str], Field(min_length=1)] | None = None
    kv_tokens: Annotated[list[Count], Field(min_length=1)] | None = None
    quantize: Literal["int8", "int4", "fp8"] | None = None


class Settings(MethodChoice):
    """`[suite]` with the device's table merged over it.

    Args:
        workloads: those to measure, None all.
        dtype: of weights and of what is computed; auto is the fastest of the device.
        repeats: timed passes, each of a prompt of its own; with `repeats_up_to` the least of them.
        relative_error: stop once every time is known so well; needs `repeats_up_to`.
        warmup_up_to: untimed passes at most; they end when they no longer become faster.
        flush_caches: before every timed pass.
        timeout_s: of a group; needs --isolate.
        peak_passes: for peak memory, each in a process of its own.
        budget_bytes: of keys and values; asks how many chunks and tokens fit.
        compile: norms, MLPs and rotations of the model by torch.compile, for every method; no peak memory is then
            measured.
        engines: serving engines that get the prompts of every timed cell of full attention, as `--engine` names them.
        engine_timeout_s: that an answer of one may take.
        methods, kv_tokens, quantize: as `MethodChoice` says.
    """

    kind: str
    model: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    context_tokens: Annotated[list[Context], Field(min_length=1)]
    seed: Seed = 0
    repeats: Repeats = 5
    repeats_up_to: Repeats | None = None
    relative_error: Annotated[float, Field(gt=0, lt=1)] | None = None
    warmup_up_to: Repeats = 1
    flush_caches: bool = False
    timeout_s: Seconds | None = None
    peak_passes: Repeats = 3
    budget_bytes: Annotated[int, Field(gt=0, le=2**63 - 1)] | None = None
    compile: bool = False
    workloads: Annotated[list[str], Field(min_length=1)] | None = None
    engines: Annotated[list[str], Field(min_length=1)] | None = None
    engine_timeout_s: Seconds = 600.0


class Workload(Table):
    """`[[workload]]`: a task at every length.

    Args:
        timed: whether prefills are timed, each with a prompt of its own.
        prompts: that are answered and scored; of a timed workload those beyond the repeats are not timed. None is as
            many as repeats, and in accuracy suites all records of the task.
        new_tokens: of an answer at most; None, which only accuracy suites have, is the task's own limit.
    """

    name: str
    task: str
    timed: bool = True
    prompts: Repeats | None = None
    context_tokens: Annotated[list[Context], Field(min_length=1)] | None = None
    new_tokens: Count | None = 12


class CellTable(Table):
    """`[[cell]]`: a method on its backends, at lengths up to a limit.

    Args:
        label: what people call it in reports and on the terminal; None makes a label from what tells it from others.
        config: the method's; a list of `chunk_tokens` stands for each of its values that the model was trained for.
    """

    method: str
    label: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    backend: str | Annotated[list[str], Field(min_length=1)] = "auto"
    up_to: Count | None = None
    reference_up_to: Count | None = None
    config: dict[str, Any] = Field(default_factory=dict)

    @property
    def backends(self) -> list[str]:
        return [self.backend] if isinstance(self.backend, str) else self.backend

    def takes(self, backend: str, tokens: int) -> bool:
        """Whether the cell runs on a backend at a length."""
        limits = [self.up_to, self.reference_up_to if backend == "reference" else None]
        return all(limit is None or tokens <= limit for limit in limits)


Partial = every_key_optional(Settings, without=("kind",))


class OfDevice(Partial):  # type: ignore[misc,valid-type]
    """`[device.KIND]`: keys of `[suite]`, and `cell.METHOD.KEY` as in a preset, for the cells of the file."""

    cell: dict[str, dict[str, Any]] = Field(default_factory=dict)


class SuiteFile(Table):
    """The top level of a suite file; `[suite]` itself is checked after merging."""

    suite: dict[str, Any]
    device: dict[Literal["cpu", "gpu"], OfDevice] = Field(default_factory=dict)
    workload: Annotated[list[dict[str, Any]], Field(min_length=1)]
    cell: Annotated[list[dict[str, Any]], Field(min_length=1)]
    preset: dict[str, dict[str, Any]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """One cell before its method's config and backend are resolved; `where` is its place in the file."""

    where: str
    table: CellTable
    backend: str
    workload: Workload
    context_tokens: int
    quantize: str | None = None


@dataclass(frozen=True)
class MethodSuite(Suite):
    """A suite of methods with everything merged over it."""

    workloads: list[Workload]
    cells: list[CellTable]

    def plans(self) -> Iterator[Plan]:
        """Cells in the order they are measured: by workload, then length, then as the file lists them.

        Those of the model's own weights before those of quantised ones, so that each is loaded once.
        """
        if quantize := self.settings.quantize:
            yield from self._plans(None, [FULL[0]])
        yield from self._plans(quantize, METHODS)

    def _plans(self, quantize: str | None, methods: Iterable[str]) -> Iterator[Plan]:
        for workload in self.workloads:
            for tokens in workload.context_tokens or self.settings.context_tokens:
                for i, table in enumerate(self.cells):
                    for backend in table.backends if table.method in methods else ():
                        if table.takes(backend, tokens):
                            yield Plan(f"{self.where}: cell[{i}]", table, backend, workload, tokens, quantize)

    def checked(self) -> Self:
        """The same suite.

        Raises:
            ConfigError: it has no cell.
        """
        if not any(self.plans()):
            raise ConfigError(
                f"{self.where}: at least one cell, got none; raise up_to or reference_up_to, or shorten the context"
            )
        return self


def method_suite(source: Source, model: str | None, methods: Sequence[str], *, scored: bool) -> MethodSuite:
    """The suite of a file whose cells are methods.

    Args:
        source: the file and what changes it.
        model: overrides the suite's model.
        methods: keeps only the cells of these methods; one without a cell gets a cell of its defaults.
        scored: whether answers of its kind are.

    Raises:
        ConfigError: anything unknown or impossible, by key path.
    """
    file = validate(SuiteFile, source.document, source.where)
    merged = Merge(source, Settings, file.workload, file.cell, model, methods)
    where = source.where
    settings = validate(Settings, merged.settings, f"{where}: suite")
    workloads = [validate(Workload, w, f"{where}: workload[{i}]") for i, w in enumerate(merged.workloads)]
    _check_repeats(where, settings)
    _check_workloads(where, settings, workloads, scored)
    chosen = [w for w in workloads if settings.workloads is None or w.name in settings.workloads]
    cells = merged.checked_cells()
    return MethodSuite(source.name, where, settings, source.data_dir, chosen, cells).checked()


def _check_repeats(where: str, settings: Settings) -> None:
    if (settings.repeats_up_to or settings.repeats) < settings.repeats:
        raise ConfigError(
            f"{where}: suite.repeats_up_to: at least suite.repeats ({settings.repeats}), "
            f"got {settings.repeats_up_to}; raise it"
        )
    if (settings.relative_error is None) != (settings.repeats_up_to is None):
        raise ConfigError(
            f"{where}: suite: relative_error and repeats_up_to together, got one of them; set or drop the other"
        )


def _check_workloads(where: str, settings: Settings, workloads: Sequence[Workload], scored: bool) -> None:
    named = [w.name for w in workloads]
    for wanted in settings.workloads or ():
        if wanted not in named:
            raise unknown_name(f"{where}: suite.workloads", "workload", wanted, named)
    for i, workload in enumerate(workloads):
        if workload.timed and workload.prompts is not None and not scored:
            raise ConfigError(
                f"{where}: workload[{i}].prompts: only where answers are scored, got {workload.prompts} timed ones "
                f"of kind {settings.kind}; set suite.repeats"
            )
        if workload.task not in task_tables():
            raise task_tables().unknown(f"{where}: workload[{i}].task", "task", workload.task)
        if workload.timed and task_tables().of_files(workload.task):
            raise ConfigError(
                f"{where}: workload[{i}].task: a generated task where times are taken, whose prompts have the length "
                f'that is asked for, got "{workload.task}"; put it into an accuracy suite'
            )


class Merge:
    """A suite file as plain tables, with what the preset, `--set` and `--model` change in it.

    Args:
        source: the file and what changes it.
        table: what `[suite]` may hold.
        workloads, cells: the file's tables.
        model: overrides the suite's.
        methods: whose cells are kept; none keeps all. One without a cell gets one with the method's defaults.
    """

    def __init__(
        self,
        source: Source,
        table: type[Table],
        workloads: Sequence[dict[str, Any]],
        cells: Sequence[dict[str, Any]],
        model: str | None,
        methods: Sequence[str],
    ) -> None:
        self.source, self.table = source, table
        self.settings = source.settings()
        self.workloads, self.cells = ([dict(table) for table in tables] for tables in (workloads, cells))
        for change in source.of_device():
            self._set(change)
        # which cells there are, settings say
        rest = [change for change in source.changes(("workload", "cell")) if not self._sets(change)]
        self.cells = self._chosen() or self.cells
        there = [cell.get("method") for cell in self.cells]
        # what methods over quantised weights are held against
        wanted = [*methods, FULL[0]] if self.settings.get("quantize") else methods
        self.methods = wanted if methods else ()
        self.cells += [{"method": method} for method in dict.fromkeys(wanted) if method not in there]
        for change in rest:
            self._set(change)
        if model is not None:
            self.settings["model"] = model

    def _sets(self, change: Change) -> bool:
        """Makes a change of settings; False where it is one of something else."""
        return set_settings(self.source, self.settings, change, self.table.model_fields)

    def _chosen(self) -> list[dict[str, Any]]:
        """A cell of each of the methods that the settings name; what is no list of names is refused later."""
        named = self.settings.get("methods")
        every = [name for name in METHODS if name not in WITHOUT_DEFAULTS]
        names = every if named == "all" else named if isinstance(named, list) else []
        return [{"method": name} for name in names]

    def _set(self, change: Change) -> None:
        """Makes a change of workloads or cells."""
        head, *rest = change.path.split(".")
        if head == "workload" and len(rest) == 2:
            known(self.source, change, rest[0], [str(w.get("name", "")) for w in self.workloads])
            known(self.source, change, rest[1], Workload.model_fields)
            for table in self.workloads:
                if table.get("name") == rest[0]:
                    table[rest[1]] = change.value
        elif head == "cell" and len(rest) >= 2:
            self._set_cell(change)
        else:
            known(self.source, change, head, ("suite", "device", "workload", "cell"))
            raise ConfigError(
                f"{self.source.where}: {change.source}: suite.KEY, device.cpu.KEY, workload.NAME.KEY or "
                f'cell.METHOD.KEY, got "{change.path}"; give the whole path'
            )

    def _set_cell(self, change: Change) -> None:
        path = change.path.removeprefix("cell.")
        methods = [str(c.get("method", "")) for c in self.cells]
        # the name of a method that is a place has dots of its own
        named = [name for name in methods if path.startswith(f"{name}.")]
        method = max(named, key=len, default=path.partition(".")[0])
        known(self.source, change, method, methods)
        keys = path.removeprefix(f"{method}.").split(".")
        if keys[0] == "config" and keys[1:]:
            keys = keys[1:]
        for table in self.cells:
            if table.get("method") != method:
                continue
            if len(keys) == 1 and keys[0] in CellTable.model_fields:
                table[keys[0]] = change.value
                continue
            # a key of the method's own config: checked by its class
            inner = table
            for key in ("config", *keys[:-1]):
                before = inner.get(key) or {}
                if not isinstance(before, dict):
                    raise ConfigError(
                        f"{self.source.where}: {change.source}: {key} must be a table, got {before!r}; "
                        f"set cell.{method}.{key} itself"
                    )
                inner[key] = dict(before)
                inner = inner[key]
            inner[keys[-1]] = change.value

    def checked_cells(self) -> list[CellTable]:
        """The cells of the chosen methods, of all where none is chosen."""
        where = self.source.where
        for method in self.methods:
            if method not in METHODS:
                raise METHODS.unknown("--method", "method", method)
        cells = [validate(CellTable, c, f"{where}: cell[{i}]") for i, c in enumerate(self.cells)]
        for i, cell in enumerate(cells):
            if cell.method not in METHODS:
                raise METHODS.unknown(f"{where}: cell[{i}].method", "method", cell.method)
        return [c for c in cells if not self.methods or c.method in self.methods]
