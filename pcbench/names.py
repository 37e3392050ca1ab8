"""Everything that has a name: pcbench's own entries, and beside them those of installed packages."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

from pcbench.errors import ConfigError, shown, unknown_name
from pcbench.extensions import GUIDE, Extension, extension, extensions, imported
from pcbench.plain_files import read_toml

__all__ = ["Places", "Tables", "inherited"]

WORD = r"[^\W\d]\w*"
NO_WORD = r"^(?=\d)|\W"
PLACE = re.compile(rf"{WORD}(\.{WORD})*:{WORD}(\.{WORD})*")
# a file, and what in it: no place, though a module could be called py
SOURCE = re.compile(r"(.+\.py)(?::(.*))?")
# far beyond what a person writes
TABLE_BYTES = 1 << 22

V = TypeVar("V")


class _Names(Generic[V]):
    """What pcbench has under `own`, and what installed packages bring to a `group` of entry points."""

    group: str
    own: dict[str, V]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self.own, *extensions(self.group))))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def package(self, name: str) -> str:
        """Who brings a name; empty where it is pcbench, a place or a file."""
        found = extension(self.group, name, self.own)
        return found.package if found else ""


class Places(_Names[str], MutableMapping[str, str]):
    """Name → `module:attribute` of an object; such a place is a name, too.

    Asking for a name that several packages give raises ConfigError.

    Args:
        group: of entry points.
        own: pcbench's entries.
        needs: attributes that an object must have.
        check: what else is wrong with an object, as "EXPECTED, got ACTUAL"; empty where nothing is.
    """

    def __init__(
        self,
        group: str,
        own: dict[str, str],
        needs: tuple[str, ...] = (),
        check: Callable[[Any], str] = lambda found: "",
    ) -> None:
        self.group, self.own, self.needs, self.check = group, own, needs, check

    def __getitem__(self, name: str) -> str:
        found = extension(self.group, name, self.own)
        if found is None and name not in self.own and (SOURCE.fullmatch(name) or not PLACE.fullmatch(name)):
            raise KeyError(name)
        return found.place if found else self.own.get(name, name)

    def __setitem__(self, name: str, place: str) -> None:
        self.own[name] = place

    def __delitem__(self, name: str) -> None:
        del self.own[name]

    def unknown(self, where: str, what: str, name: str) -> ConfigError:
        """The error for a name that there is not: of a file of code it says how its module is named.

        Args:
            where: who asks; what: kind of thing; name: as asked for.
        """
        if not (file := SOURCE.fullmatch(name)):
            return unknown_name(where, what, name, self)
        path = Path(os.path.normpath(file[1]))
        # a file below the working folder, in which modules are found
        below = not path.is_absolute() and ".." not in path.parts
        parts = path.with_suffix("").parts if below else (path.stem,)
        place = f"{'.'.join(re.sub(NO_WORD, '_', part) for part in parts)}:{file[2] or 'NAME'}"
        rename = "" if PLACE.fullmatch(f"{'.'.join(parts)}:x") else "rename it and "
        remedy = f"{rename}write {place}" + ("" if below else f" with {path.parent} on PYTHONPATH")
        return ConfigError(f"{where}: the name of a {what} or module:NAME, got {name[:80]}; {remedy[:200]}")

    def load(self, what: str, name: str, where: str) -> Any:
        """The object of a name.

        Args:
            what: kind of thing; name: as asked for; where: who asks: for messages.

        Raises:
            ConfigError: there is no such name, it cannot be imported, or it is another kind of thing.
        """
        if name not in self:
            raise self.unknown(where, what, name)
        found = extension(self.group, name, self.own)
        if found is not None:
            brought = self._fitting(found.load(), what, found.where)
            # what says its own name could say another's
            if "id" in self.needs and brought.id != name:
                raise ConfigError(f"{found.where}: a {what} whose id is {name}, got {brought.id}; rename one")
            return brought
        if name in self.own:
            module, _, attribute = self.own[name].partition(":")
            return getattr(import_module(module), attribute)
        if name.startswith("__main__:"):
            raise ConfigError(f"{where}: a {what} that other processes can import, got {name}; put it into a module")
        _reach(name.partition(":")[0])
        return self._fitting(imported(name, where, "name one that is installed or on PYTHONPATH"), what, where)

    def _fitting(self, found: Any, what: str, where: str) -> Any:
        if lacking := [need for need in self.needs if not _has(found, need)]:
            raise ConfigError(
                f"{where}: a {what} with {', '.join(self.needs)}, got {shown(found)} without {', '.join(lacking)}; "
                f"{GUIDE}"
            )
        if wrong := self.check(found):
            raise ConfigError(f"{where}: {wrong}; {GUIDE}")
        return found


def _has(found: Any, dotted: str) -> bool:
    name, _, rest = dotted.partition(".")
    return hasattr(found, name) and (not rest or _has(getattr(found, name), rest))


def _reach(module: str) -> None:
    """A module of the working folder that is nowhere else can be imported from there, as with `python -m`."""
    top, here = module.partition(".")[0], Path.cwd()
    there = (here / top).is_dir() or (here / f"{top}.py").is_file()
    if there and top not in sys.modules and find_spec(top) is None:
        sys.path.append(os.fspath(here))


class Tables(_Names[dict[str, Any]], Mapping[str, dict[str, Any]]):
    """Name → table; those of other packages are read when they are asked for.

    Asking for a name that several packages give raises ConfigError.

    Args:
        group: of entry points.
        own: pcbench's tables.
        files: how names end that are files of records in the working folder or elsewhere; empty where none are.
    """

    def __init__(self, group: str, own: dict[str, dict[str, Any]], files: str = "") -> None:
        self.group, self.own, self.files = group, own, files
        self.read: dict[Extension, dict[str, Any]] = {}

    def is_file(self, name: str) -> bool:
        """Whether a name is that of a file of records."""
        return bool(self.files) and name.endswith(self.files)

    def unknown(self, where: str, what: str, name: str, without: str = "") -> ConfigError:
        """The error for a name that there is not: of a file of another kind it says what would be one.

        Args:
            where: who asks; what: kind of thing; name: as asked for.
            without: what need not stand in front of a known name.
        """
        path = Path(name)
        if not (self.files and path.suffix):
            beside = [file] if self.files and os.path.isfile(file := f"{name}{self.files}") else []
            return unknown_name(where, what, name, [*(one.removeprefix(without) for one in self), *beside])
        expected = f"the name of a {what} or a file of records, one a line, that ends in {self.files}"
        return ConfigError(f"{where}: {expected}, got {name[:80]}; make it {str(path.with_suffix(self.files))[-80:]}")

    def of_files(self, name: str) -> bool:
        """Whether what a table builds comes from records of a file, whose lengths are their own."""
        table = self[name]
        return "records" in table or "files" in table

    def short(self, name: str) -> str:
        """A name without the folder and ending of a file."""
        return Path(name).stem if self.is_file(name) else name

    def __getitem__(self, name: str) -> dict[str, Any]:
        if self.is_file(name):
            return {"records": name}
        found = extension(self.group, name, self.own)
        if found is None:
            return self.own[name]
        if found not in self.read:
            self.read[found] = _table(found, self.own)
        return self.read[found]

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        found = extension(self.group, name, self.own)
        return found is not None or name in self.own or self.is_file(name)

    def where(self, name: str) -> str:
        """The head of messages about a table: who brings it; empty where it is pcbench."""
        found = extension(self.group, name, self.own)
        return found.where if found else ""


def _table(found: Extension, own: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The table of an extension: an object, a table of a TOML file, or what says where records are."""
    if not found.is_file:
        table = found.load()
    elif found.path.suffix == ".jsonl":
        return {"records": str(found.path)}
    else:
        where = f"{found.where}: {found.path.name}"
        tables = inherited(read_toml(found.path, TABLE_BYTES, where=where), own, where)
        if found.name not in tables:
            raise unknown_name(where, "table", found.name, tables)
        table = tables[found.name]
    if not isinstance(table, dict):
        raise ConfigError(f"{found.where}: a table, got {shown(table)} at {found.place}; {GUIDE}")
    return table


def inherited(found: dict[str, Any], known: Mapping[str, dict[str, Any]], where: str) -> dict[str, dict[str, Any]]:
    """Name → whole table, of a file of tables.

    A table `defaults` stands under all others of the file, and under it the table that a `like` names; `{dataset}` in
    a text of `files` is the table's own.

    Args:
        found: the file; known: tables that `like` may name besides; where: the file, for messages.

    Raises:
        ConfigError: what should be a table is none, or `like` names none.
    """
    tables: dict[str, dict[str, Any]] = {}
    for name, table in found.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{where}: tables, got {name} = {shown(table)}; begin with [NAME]")
    defaults = found.get("defaults", {})
    for name, table in found.items():
        if name == "defaults":
            continue
        above = {**known, **tables}
        like = table.get("like")
        if like is not None and like not in above:
            raise unknown_name(f"{where}: {name}.like", "table", str(like), above)
        merged = (above[like] if like is not None else {}) | defaults | {k: v for k, v in table.items() if k != "like"}
        if "files" in merged:
            merged["files"] = [str(path).replace("{dataset}", str(merged.get("dataset"))) for path in merged["files"]]
        tables[name] = merged
    return tables
