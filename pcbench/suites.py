"""Suite files: what to measure, as TOML; presets and `--set` paths merge over them."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from pcbench.config import Table, bundled, parse_value, validate
from pcbench.errors import ConfigError, DataMissing, unknown_name
from pcbench.registry import METHODS, task_tables
from pcbench.types import DeviceKind, Kind

__all__ = ["CellTable", "Plan", "Suite", "Workload", "load_suite", "suite_names", "suite_summaries"]

Count = Annotated[int, Field(gt=0)]


class Settings(Table):
    """`[suite]` with the device's table merged over it; `workloads` names those to measure, None all."""

    kind: Kind
    model: str
    dtype: Literal["float32", "bfloat16", "float16"]
    context_tokens: Annotated[list[Count], Field(min_length=1)]
    seed: Annotated[int, Field(ge=0)] = 0
    repeats: Count = 5
    workloads: Annotated[list[str], Field(min_length=1)] | None = None


class Workload(Table):
    """`[[workload]]`: a task at every length; timed workloads take one unique prompt per repeat."""

    name: str
    task: str
    timed: bool = True
    prompts: Count | None = None
    context_tokens: Annotated[list[Count], Field(min_length=1)] | None = None
    new_tokens: Count = 12


class CellTable(Table):
    """`[[cell]]`: a method on its backends."""

    method: str
    backend: str | Annotated[list[str], Field(min_length=1)] = "auto"
    reference_up_to: Count | None = None
    config: dict[str, Any] = Field(default_factory=dict)

    @property
    def backends(self) -> list[str]:
        return [self.backend] if isinstance(self.backend, str) else self.backend


Partial: Any = create_model(
    "Partial",
    __base__=Table,
    **{name: (field.annotation | None, None) for name, field in Settings.model_fields.items() if name != "kind"},  # type: ignore[call-overload, operator]
)


class SuiteFile(Table):
    """The top level of a suite file; `[suite]` itself is checked after merging."""

    suite: dict[str, Any]
    device: dict[Literal["cpu", "gpu"], Partial] = Field(default_factory=dict)
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


@dataclass(frozen=True)
class Suite:
    """A suite file with everything merged over it."""

    name: str
    where: str
    settings: Settings
    workloads: list[Workload]
    cells: list[CellTable]

    def plans(self) -> Iterator[Plan]:
        """Cells in the order they are measured: by workload, then length, then as the file lists them."""
        for workload in self.workloads:
            for tokens in workload.context_tokens or self.settings.context_tokens:
                for i, table in enumerate(self.cells):
                    for backend in table.backends:
                        limit = table.reference_up_to
                        if backend == "reference" and limit is not None and tokens > limit:
                            continue
                        yield Plan(f"{self.where}: cell[{i}]", table, backend, workload, tokens)


def suite_names() -> list[str]:
    """Names of the suites that ship with pcbench."""
    return sorted(path.stem for path in bundled("suites").glob("*.toml"))


def suite_summaries() -> dict[str, str]:
    """Name → the comment a suite's file begins with."""
    texts = {name: (bundled("suites") / f"{name}.toml").read_text(encoding="utf-8") for name in suite_names()}
    return {name: text.partition("\n")[0].removeprefix("#").strip() for name, text in texts.items()}


def load_suite(
    name: str,
    device: DeviceKind,
    *,
    preset: str | None = None,
    sets: Sequence[str] = (),
    model: str | None = None,
    methods: Sequence[str] = (),
) -> Suite:
    """A suite by name or file, merged for a device.

    Args:
        name: a bundled suite's name or the path of a .toml file.
        device: chooses `[device.cpu]` or `[device.gpu]`.
        preset: a `[preset.NAME]` of the file.
        sets: `path=value` strings: suite.KEY, device.cpu.KEY, workload.NAME.KEY, cell.METHOD.KEY.
        model: overrides the suite's model.
        methods: keeps only the cells of these methods.

    Raises:
        ConfigError: anything unknown or impossible, by key path.
        DataMissing: `name` is a path and there is no such file.
    """
    path = _find(name)
    where = path.name if path.parent != bundled("suites") else f"suites/{path.name}"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: a TOML file, got an error: {error}") from None
    file = validate(SuiteFile, document, where)
    kind = "cpu" if device == "cpu" else "gpu"
    settings = file.suite | document.get("device", {}).get(kind, {})
    merged = _Merge(where, kind, settings, [dict(w) for w in file.workload], [dict(c) for c in file.cell])
    for key, value in _preset_paths(file, preset, where):
        merged.set(f"preset.{preset}", key, value)
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f'--set: key.path=value, got "{text}"; for example --set suite.repeats=3')
        merged.set(f"--set {key}", key.strip(), parse_value(value))
    if model is not None:
        merged.settings["model"] = model
    return merged.suite(path.stem, methods)


def _find(name: str) -> Path:
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise DataMissing(f"--suite: a suite's name or file, got {name}; there is no such file")
        return path
    if name not in suite_names():
        raise unknown_name("--suite", "suite", name, suite_names())
    return bundled("suites") / f"{name}.toml"


def _preset_paths(file: SuiteFile, preset: str | None, where: str) -> Iterator[tuple[str, Any]]:
    if preset is None:
        return
    if preset not in file.preset:
        raise unknown_name(f"{where}: --preset", "preset", preset, file.preset)
    for key, value in file.preset[preset].items():
        if key not in ("workload", "cell"):
            yield f"suite.{key}", value
            continue
        for name, table in value.items():
            yield from ((f"{key}.{name}.{inner}", x) for inner, x in table.items())


class _Merge:
    """A suite file as plain tables while presets and `--set` change it."""

    def __init__(
        self,
        where: str,
        kind: str,
        settings: dict[str, Any],
        workloads: list[dict[str, Any]],
        cells: list[dict[str, Any]],
    ) -> None:
        self.where, self.kind = where, kind
        self.settings, self.workloads, self.cells = settings, workloads, cells

    def set(self, source: str, path: str, value: Any) -> None:
        """Puts `value` at a dotted path."""
        head, *rest = path.split(".")
        if head == "suite" and len(rest) == 1:
            self._known(source, rest[0], Settings.model_fields)
            self.settings[rest[0]] = value
        elif head == "device" and len(rest) == 2:
            self._known(source, rest[0], ("cpu", "gpu"))
            self._known(source, rest[1], Settings.model_fields)
            if rest[0] == self.kind:
                self.settings[rest[1]] = value
        elif head == "workload" and len(rest) == 2:
            self._known(source, rest[0], [w.get("name", "") for w in self.workloads])
            self._known(source, rest[1], Workload.model_fields)
            for table in self.workloads:
                if table.get("name") == rest[0]:
                    table[rest[1]] = value
        elif head == "cell" and len(rest) >= 2:
            self._set_cell(f"{self.where}: {source}", rest, value)
        else:
            self._known(source, head, ("suite", "device", "workload", "cell"))
            raise ConfigError(
                f"{self.where}: {source}: suite.KEY, device.cpu.KEY, workload.NAME.KEY or cell.METHOD.KEY, "
                f'got "{path}"; give the whole path'
            )

    def _set_cell(self, source: str, path: list[str], value: Any) -> None:
        method, *keys = path
        if method not in (names := [c.get("method", "") for c in self.cells]):
            raise unknown_name(source, "name", method, names)
        if keys[0] == "config":
            keys = keys[1:]
        for table in self.cells:
            if table.get("method") != method:
                continue
            if len(keys) == 1 and keys[0] in CellTable.model_fields:
                table[keys[0]] = value
                continue
            # a key of the method's own config: checked by its class
            inner = table["config"] = dict(table.get("config", {}))
            for key in keys[:-1]:
                value_before = inner.get(key) or {}
                if not isinstance(value_before, dict):
                    raise ConfigError(
                        f"{source}: {key} must be a table, got {value_before!r}; set {method}.{key} itself"
                    )
                inner[key] = dict(value_before)
                inner = inner[key]
            inner[keys[-1]] = value

    def _known(self, source: str, name: str, names: Any) -> None:
        if name not in names:
            raise unknown_name(f"{self.where}: {source}", "name", name, names)

    def suite(self, name: str, methods: Sequence[str]) -> Suite:
        settings = validate(Settings, self.settings, f"{self.where}: suite")
        workloads = [validate(Workload, w, f"{self.where}: workload[{i}]") for i, w in enumerate(self.workloads)]
        cells = [validate(CellTable, c, f"{self.where}: cell[{i}]") for i, c in enumerate(self.cells)]
        named = [w.name for w in workloads]
        for wanted in settings.workloads or ():
            if wanted not in named:
                raise unknown_name(f"{self.where}: suite.workloads", "workload", wanted, named)
        for i, workload in enumerate(workloads):
            if workload.timed and workload.prompts is not None:
                raise ConfigError(
                    f"{self.where}: workload[{i}].prompts: only where timed = false, got {workload.prompts}; "
                    "a timed workload takes a prompt a repeat, set suite.repeats"
                )
            if workload.task not in task_tables():
                raise unknown_name(f"{self.where}: workload[{i}].task", "task", workload.task, task_tables())
        for i, cell in enumerate(cells):
            if cell.method not in METHODS:
                raise unknown_name(f"{self.where}: cell[{i}].method", "method", cell.method, METHODS)
        for method in methods:
            if method not in METHODS:
                raise unknown_name("--method", "method", method, METHODS)
        kept = [c for c in cells if not methods or c.method in methods]
        if not kept:
            raise ConfigError(
                f"{self.where}: --method of the suite ({', '.join(dict.fromkeys(c.method for c in cells))}), "
                f"got {', '.join(methods)}; choose one of them or another suite"
            )
        chosen = [w for w in workloads if settings.workloads is None or w.name in settings.workloads]
        suite = Suite(name, self.where, settings, chosen, kept)
        if not any(suite.plans()):
            raise ConfigError(
                f"{self.where}: at least one cell, got none; raise reference_up_to or shorten the context"
            )
        return suite
