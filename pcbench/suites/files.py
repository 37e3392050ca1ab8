"""Where suite files are, and what presets and `--set` change in them."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcbench.config import bundled, parse_value
from pcbench.errors import ConfigError, DataMissing, shown, unknown_name
from pcbench.extensions import extension, extensions
from pcbench.plain_files import read_text, read_toml
from pcbench.registry import described
from pcbench.system.surroundings import expanded
from pcbench.types import DeviceKind

__all__ = [
    "Change",
    "Source",
    "Suite",
    "known",
    "read_suite",
    "set_settings",
    "suite_names",
    "suite_summaries",
    "suite_text",
]

# far beyond what a person writes
SUITE_BYTES = 1 << 22


@dataclass(frozen=True)
class Change:
    """A value for a dotted path; `source` says who wants it, for error messages."""

    source: str
    path: str
    value: Any


@dataclass(frozen=True)
class Source:
    """A suite file as plain tables, and what the command line changes in it.

    Args:
        name: of the suite; where: of the file, for error messages.
        kind: of device: cpu or gpu.
        document: the file; it has a table `suite`.
        preset: the name given; sets: the `--set` strings but data.dir.
        tasks: of `--task`.
        data_dir: what `--set data.dir` says; None leaves the folder of official files to PCBENCH_DATA.
    """

    name: str
    where: str
    kind: str
    document: dict[str, Any]
    preset: str | None
    sets: Sequence[str]
    data_dir: str | None = None
    tasks: Sequence[str] = ()

    def settings(self) -> dict[str, Any]:
        """`[suite]` with the device's table over it."""
        suite: dict[str, Any] = self.document["suite"]
        return suite | {key: value for key, value in self._device().items() if key != "cell"}

    def of_device(self) -> Iterator[Change]:
        """What the device's table says of the file's cells, whose names stand in it as in a preset."""
        source = f"device.{self.kind}"
        yield from self._named(source, "cell", self._device().get("cell", {}))

    def _device(self) -> dict[str, Any]:
        table: dict[str, Any] = self.document.get("device", {}).get(self.kind, {})
        return table

    def changes(self, sections: Iterable[str]) -> Iterator[Change]:
        """What the preset says, then every `--set`.

        Args:
            sections: tables with a name and keys below them; other keys of a preset belong to `suite`.

        Raises:
            ConfigError: an unknown preset, or a `--set` without a value.
        """
        yield from self._preset(tuple(sections))
        for text in self.sets:
            key, equals, value = text.partition("=")
            if not equals:
                raise ConfigError(f'--set: key.path=value, got "{text}"; for example --set suite.seed=3')
            yield Change(f"--set {key}", key.strip(), parse_value(value))

    def _preset(self, sections: tuple[str, ...]) -> Iterator[Change]:
        if self.preset is None:
            return
        presets = self.document.get("preset", {})
        if self.preset not in presets:
            raise unknown_name(f"{self.where}: --preset", "preset", self.preset, presets)
        source = f"preset.{self.preset}"
        for key, value in presets[self.preset].items():
            if key in sections:
                yield from self._named(source, key, value)
            else:
                yield Change(source, f"suite.{key}", value)

    def _named(self, source: str, section: str, value: Any) -> Iterator[Change]:
        """A table of names with keys below them, as one change a key."""
        for name, table in self._table(value, f"{source}.{section}").items():
            inner = self._table(table, f"{source}.{section}.{name}")
            yield from (Change(source, f"{section}.{name}.{at}", x) for at, x in inner.items())

    def _table(self, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ConfigError(f"{self.where}: {path}: a table, got {shown(value)}; write [{path}]")
        return value


@dataclass(frozen=True)
class Suite:
    """A suite file with everything merged over it; what its cells are made of a kind of measurement adds.

    Args:
        name: of the suite; where: of the file, for error messages.
        settings: `[suite]`, a `Table` with `kind` and `timeout_s` whose other keys its kind knows.
        data_dir: as in `Source`.
    """

    name: str
    where: str
    settings: Any
    data_dir: str | None


def suite_names() -> list[str]:
    """Names of the suites that ship with pcbench, and of those that installed packages bring."""
    return sorted({*_bundled(), *extensions("suites")})


def suite_text(name: str) -> str:
    """The file of a suite, by its name or path; errors as of `read_suite`."""
    return read_text(_find(name)[0], SUITE_BYTES)


def suite_summaries(say: Callable[[str], None] | None = None) -> dict[str, str]:
    """Name → the comment a suite's file begins with; `say` as in `registry.described`."""

    def describe(name: str) -> str:
        found = extension("suites", name, _bundled())
        text = read_text(found.path if found else _bundled()[name], SUITE_BYTES)
        line = text.partition("\n")[0].removeprefix("#").strip()
        return f"{line} ({found.package})" if found else line

    return described(suite_names(), describe, say)


def _bundled() -> dict[str, Path]:
    return {path.stem: path for path in bundled("suites").glob("*.toml")}


def read_suite(name: str, device: DeviceKind, preset: str | None, sets: Sequence[str]) -> Source:
    """A suite file by its name or path, parsed and not yet checked.

    Raises:
        ConfigError: an unknown name, no TOML, or no table `suite`.
        DataMissing: `name` is a path and there is no such file.
    """
    path, where = _find(name)
    document = read_toml(path, SUITE_BYTES, where=where)
    if not isinstance(document.get("suite"), dict):
        raise ConfigError(f"{where}: suite: a table [suite], got none; add it")
    folders = [text for text in sets if text.startswith("data.")]
    rest = [text for text in sets if text not in folders]
    kind = "cpu" if device == "cpu" else "gpu"
    return Source(
        Path(name).stem if name.endswith(".toml") else name,
        where,
        kind,
        document,
        preset,
        rest,
        _data_dir(where, folders),
    )


def _data_dir(where: str, sets: Sequence[str]) -> str | None:
    """The folder of the last `data.dir=FOLDER`."""
    if not sets:
        return None
    for text in sets:
        key, _, folder = text.partition("=")
        if key != "data.dir":
            raise unknown_name(f"{where}: --set {key}", "name", key, ["data.dir"])
    # the text itself: a folder called 1 is no number
    if not folder or not expanded(folder, f"{where}: --set data.dir").is_dir():
        raise DataMissing(f"{where}: --set data.dir: a folder, got {folder!r}; name one that is there")
    return folder


def _find(name: str) -> tuple[Path, str]:
    """The file of a suite, and what messages call it."""
    if name.endswith(".toml"):
        if not os.path.lexists(name):
            raise DataMissing(f"--suite: a suite's name or file, got {name}; there is no such file")
        return Path(name), Path(name).name
    if (found := extension("suites", name, _bundled())) is not None:
        return found.path, found.place.replace(":", "/")
    if name not in _bundled():
        raise unknown_name("--suite", "suite", name, suite_names())
    return _bundled()[name], f"suites/{name}.toml"


def set_settings(source: Source, settings: dict[str, Any], change: Change, keys: Iterable[str]) -> bool:
    """Makes a change of `suite.KEY` or `device.KIND.KEY`; False where the path is another.

    Args:
        source: the file.
        settings: changed in place; another device's keys are only checked.
        change: what to set.
        keys: those that `[suite]` may have.

    Raises:
        ConfigError: an unknown name in the path.
    """
    head, *rest = change.path.split(".")
    if head in ("suite", "device") and rest[-1:] == ["kind"] and change.value != settings.get("kind"):
        raise ConfigError(
            f"{source.where}: {change.source}: the kind of the suite's file, {settings.get('kind')}, got "
            f"{shown(change.value)}; run a suite of that kind"
        )
    if head == "suite" and len(rest) == 1:
        known(source, change, rest[0], keys)
        settings[rest[0]] = change.value
        return True
    if head == "device" and len(rest) == 2:
        known(source, change, rest[0], ("cpu", "gpu"))
        known(source, change, rest[1], keys)
        if rest[0] == source.kind:
            settings[rest[1]] = change.value
        return True
    return False


def known(source: Source, change: Change, name: str, names: Iterable[str]) -> None:
    """Raises ConfigError with the nearest name unless `name` is one of `names`."""
    if name not in names:
        raise unknown_name(f"{source.where}: {change.source}", "name", name, names)
