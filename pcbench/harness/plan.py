"""A run before it begins: device, suite and cells."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pcbench.errors import ConfigError
from pcbench.harness.kinds import Kind, PlannedCell
from pcbench.harness.options import Options
from pcbench.harness.processes import followers, ranks
from pcbench.harness.shards.share import narrow
from pcbench.measure.machine.devices import Build, resolve_device
from pcbench.registry import task_tables
from pcbench.suites import Suite, load_kind, load_suite
from pcbench.tasks.files import set_data_dir
from pcbench.types import DeviceKind

__all__ = ["Planned", "plan", "plan_for"]


@dataclass(frozen=True)
class Planned:
    """A run that could begin.

    Args:
        options: the command line.
        device: where it is measured.
        kind: with its cells, those of the shard where `options` name one.
        whole: of the whole run what `Kind.fixed` says.
        said: what the shard has, in a line; empty of a whole run.
    """

    options: Options
    device: DeviceKind
    kind: Kind
    whole: dict[str, list[Any]]
    said: str = ""

    @property
    def suite(self) -> Suite:
        return self.kind.suite

    @property
    def cells(self) -> Sequence[PlannedCell]:
        return self.kind.cells

    def groups(self) -> list[list[PlannedCell]]:
        """Cells by group, in the order of measurement."""
        groups: dict[str, list[PlannedCell]] = {}
        for prepared in self.cells:
            groups.setdefault(prepared.cell.group, []).append(prepared)
        return list(groups.values())

    def repro(self, prepared: PlannedCell) -> str:
        """The command that measures a cell's group."""
        narrowed = self.kind.narrowed(prepared)
        asked = narrowed.tasks if self.options.tasks else ()
        # a group that is measured as a whole is in every shard of itself
        shard = self.options.shard if self.kind.by_prompt else None
        options = replace(self.options, methods=narrowed.methods or self.options.methods, tasks=asked, shard=shard)
        quoted = ", ".join(json.dumps(name) if task_tables().is_file(name) else name for name in narrowed.tasks)
        sets = [f"suite.tasks=[{quoted}]", *narrowed.sets] if quoted and not asked else narrowed.sets
        return options.command(*(word for text in sets for word in ("--set", text)))


def plan(options: Options) -> Planned:
    """Settles device, suite, model and cells without loading weights.

    Raises:
        PcbenchError: anything that would stop the whole run.
    """
    return plan_for(options, resolve_device(options.device, Build.here()))


def plan_for(options: Options, device: DeviceKind) -> Planned:
    """The same for a device that need not be there.

    Raises:
        PcbenchError: as of `plan`.
    """
    suite = load_suite(
        options.suite,
        device,
        preset=options.preset,
        sets=options.sets,
        model=options.model,
        methods=options.methods,
        tasks=options.tasks,
    )
    if suite.settings.timeout_s is not None and not options.isolate:
        raise ConfigError(
            f"{suite.where}: suite.timeout_s: --isolate, got none; a group of this process cannot be stopped"
        )
    if suite.data_dir is not None:
        set_data_dir(suite.data_dir)
    kind: Kind = load_kind(suite.settings.kind, suite.where)(suite, device, options.limit)
    if kind.by_prompt and options.isolate and ranks.ranks() > 1:
        whole = f"a suite of kind {suite.settings.kind} on one rank"
        raise ConfigError(f"--isolate: {whole}, got {ranks.ranks()} ranks; leave it out")
    whole = kind.fixed()
    said = narrow(kind, options.shard) if options.shard else ""
    followers.check_shared(kind.cells, by_prompt=kind.by_prompt, isolate=options.isolate)
    return Planned(options, device, kind, whole, said)
