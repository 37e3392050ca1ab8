"""A shard's part of a planned run."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pcbench.errors import ConfigError
from pcbench.harness.kinds import Kind, PlannedCell
from pcbench.harness.shards.shard import Shard

__all__ = ["narrow"]


def narrow(kind: Kind, shard: Shard) -> str:
    """Leaves a kind the cells of a shard: of prompts every cell with some, else whole groups.

    Timed groups are never cut, because a ratio needs both of its sides in one process.

    Args:
        kind: a planned run.
        shard: the part that stays.

    Returns:
        What stays, in a line.

    Raises:
        ConfigError: nothing stays.
    """
    whole = {prepared.cell.group: prepared.cell for prepared in kind.cells}
    if kind.by_prompt:
        most, of = max(cell.prompts for cell in whole.values()), "prompts of a cell"
        kept: Sequence[PlannedCell] = [cell for cell in (_part(p, shard) for p in kind.cells) if cell is not None]
    else:
        most, of = len(whole), "groups of cells"
        groups = set(shard.groups(list(whole)))
        kept = [prepared for prepared in kind.cells if prepared.cell.group in groups]
    if not kept:
        got = f"{shard}, which has none"
        raise ConfigError(f"--shard: a share of the {most} {of}, got {got}; take {max(1, most)} shards at most")
    kind.cells = kept
    own = {prepared.cell.group: prepared.cell for prepared in kept}
    said = f"shard {shard} ({shard.by}): {len(own)} of {len(whole)} groups"
    if not kind.by_prompt:
        return said
    taken, prompts = sum(len(cell.indices) for cell in own.values()), sum(cell.prompts for cell in whole.values())
    return f"{said}, {taken} of {prompts} prompts"


def _part(prepared: Any, shard: Shard) -> Any:
    """A cell with its shard's prompts; None where there are none. What has no prompts is the first shard's."""
    first, step = shard.prompts(prepared.cell.group)
    if first >= max(1, prepared.cell.prompts):
        return None
    return replace(prepared, cell=replace(prepared.cell, share=(first, step)))
