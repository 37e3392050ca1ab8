"""What other installed packages bring, from methods to kinds of measurement, as entry points `pcbench.GROUP`.

Nothing is imported before it is used, and a name that two packages give, pcbench among them, is refused by both.
"""

import hashlib
import sys
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pcbench.errors import ConfigError

__all__ = ["GROUPS", "GUIDE", "Extension", "extension", "extensions", "imported", "module_file", "source_sha256"]

GROUPS = ("methods", "tasks", "generators", "scorers", "models", "suites", "kinds")
GUIDE = "docs/extending.md says how"
# what a place may name besides an object of a module: a file beside it
FILES = (".toml", ".jsonl")
# module → how it was imported, and the sha256 of its file when pcbench first saw it so
SEEN: dict[str, tuple[Any, str]] = {}


@dataclass(frozen=True)
class Extension:
    """One entry point.

    Args:
        group: of `GROUPS`; name: under which it is used.
        place: `module:attribute`, or `package:FILE.toml` or `package:FILE.jsonl` for a file in the package's folder.
        package: name and version of who brings it.
    """

    group: str
    name: str
    place: str
    package: str

    @property
    def where(self) -> str:
        """The head of messages."""
        return f"{self.group[:-1]} {self.name} of {self.package}"

    @property
    def is_file(self) -> bool:
        """Whether the place is that of a file."""
        return self.place.endswith(FILES)

    @property
    def path(self) -> Path:
        """The file that the place names.

        Raises:
            ConfigError: it is not there, or of another kind.
        """
        module, _, file = self.place.partition(":")
        for folder in _folders(module) if self.is_file else ():
            if (path := folder / file).is_file():
                return path
        raise ConfigError(
            f"{self.where}: package:FILE{' or package:FILE'.join(FILES)} with a file of the package, got {self.place}; "
            f"{GUIDE}"
        )

    def load(self) -> Any:
        """The object that the place names.

        Raises:
            ConfigError: its module cannot be imported, or has no such attribute.
        """
        return imported(self.place, self.where, f"mend {self.package} or uninstall it")


@cache
def extensions(group: str) -> dict[str, tuple[Extension, ...]]:
    """Name → every extension of that name, as the metadata of installed packages say; nothing is imported."""
    found: dict[str, tuple[Extension, ...]] = {}
    for point in entry_points(group=f"pcbench.{group}"):
        package = "a package without a name" if point.dist is None else f"{point.dist.name} {point.dist.version}"
        given = Extension(group, point.name, point.value.replace(" ", ""), package)
        found[point.name] = (*found.get(point.name, ()), given)
    return found


def extension(group: str, name: str, own: Container[str]) -> Extension | None:
    """What brings a name; None where nothing installed does.

    Args:
        group: of `GROUPS`.
        name: of an entry point.
        own: names that pcbench has itself.

    Raises:
        ConfigError: several packages give the name.
    """
    found = extensions(group).get(name, ())
    givers = [*(["pcbench"] if name in own else []), *(one.package for one in found)]
    if found and len(givers) > 1:
        raise ConfigError(
            f"{group[:-1]} {name}: one package that brings it, got {' and '.join(givers)}; uninstall one or have its "
            f"entry point in pcbench.{group} renamed"
        )
    return found[0] if found else None


def imported(place: str, where: str, remedy: str) -> Any:
    """The object at `module:attribute`.

    Args:
        place: where it is.
        where: the head of messages.
        remedy: what to do, the end of messages.

    Raises:
        ConfigError: its module cannot be imported, has no such attribute, or has changed since it was imported.
    """
    module, _, attribute = place.partition(":")
    try:
        found: Any = import_module(module)
    # a module is a program, and may fail as it likes
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(f"{where}: a module that can be imported, got {module}: {said}; {remedy}") from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ConfigError(f"{where}: {module} with {attribute}, got none; {remedy}")
        found = getattr(found, name)
    source_sha256(place, found, where)
    return found


def source_sha256(place: str, found: Any, where: str) -> str:
    """Of the file that an object's code is in; empty where there is none.

    Args:
        place: `module:attribute`; found: the object there; where: the head of messages.

    Raises:
        ConfigError: the file is not what it was: other processes would import what this one does not hold.
    """
    # classes and functions say where they are defined, which need not be where a place finds them
    module = getattr(found, "__module__", "") if hasattr(found, "__qualname__") else ""
    if module not in sys.modules or module.startswith("pcbench."):
        module = place.partition(":")[0]
    held = sys.modules[module]
    file, spec = getattr(held, "__file__", None), getattr(held, "__spec__", None)
    if not file:
        return ""
    now = hashlib.sha256(Path(file).read_bytes()).hexdigest() if Path(file).is_file() else ""
    # a reload makes another spec
    if module not in SEEN or SEEN[module][0] is not spec:
        SEEN[module] = spec, now
    if SEEN[module][1] != now:
        raise ConfigError(f"{where}: {file} as it was imported, got one that has changed since; restart Python")
    return now


def module_file(module: str) -> Path | None:
    """The source of a module, found without importing it; None where only an import finds it."""
    spec, _, rest = _top(module)
    if spec is None:
        return None
    files = [Path(spec.origin)] if not rest and spec.origin else []
    for folder in _folders(module):
        files += [folder / "__init__.py", folder.with_suffix(".py")]
    return next((file for file in files if file.suffix == ".py" and file.is_file()), None)


def _folders(module: str) -> Iterator[Path]:
    """Where the folder of a package is, found without importing it."""
    spec, _, rest = _top(module)
    for location in (spec and spec.submodule_search_locations) or ():
        yield Path(location).joinpath(*rest)


def _top(module: str) -> Any:
    """The spec of a module's top package, its name, and the names below it: finding more would import it."""
    top, *rest = module.split(".")
    try:
        return find_spec(top), top, rest
    # what an import has left without a spec, and names that are none
    except (ValueError, ImportError):
        return None, top, rest
