"""Methods that share every prompt over the ranks of a torchrun: the first rank measures, the others follow it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pcbench import ops
from pcbench.errors import ConfigError
from pcbench.harness.processes import ranks

__all__ = ["check_resumed", "check_shared", "dismiss", "own_groups"]


def check_shared(cells: Sequence[Any], *, by_prompt: bool, isolate: bool) -> None:
    """Refuses what would measure prompts in several processes at once.

    Args:
        cells: of the run.
        by_prompt: whether ranks take prompts of their own.
        isolate: of the command line.

    Raises:
        ConfigError: ranks that share every prompt as well.
    """
    if _sharing(cells) is not None and (by_prompt or isolate):
        where = "a suite whose ranks take prompts of their own" if by_prompt else "a child of --isolate"
        raise ConfigError(f'cell.config.ranks: "one" in {where}, got "chunks"; leave it out')


def check_resumed(cells: Sequence[Any], began: int | None, folder: Path) -> None:
    """Refuses to go on with another number of ranks where they share prompts, which changes what is measured.

    Args:
        cells: of the run.
        began: the number of ranks that began it; None where its manifest does not say.
        folder: the run's.

    Raises:
        ConfigError: there are more or fewer now.
    """
    if began != ranks.ranks() and any(map(ranks.uses_ranks, cells)):
        raise ConfigError(
            f"--resume: as many ranks as began {folder} ({began or 'unknown'}), got {ranks.ranks()}; "
            "they share its prompts, see torchrun --nproc-per-node"
        )


def own_groups(cells: Sequence[Any], groups: list[Any], session: Any) -> list[Any]:
    """The groups that this rank measures.

    Where a cell's method shares prompts, the first rank measures them all; the others come back from here when it
    has finished, with none.

    Args:
        cells: of the run.
        groups: of the run.
        session: whose `runner` loads the model of a cell, where a method shares prompts.

    Raises:
        RankLost: another rank has ended.
    """
    sharing = _sharing(cells)
    if sharing is None:
        return ranks.share(groups)
    if ranks.rank():
        _follow(sharing, session)
        return []
    return groups


def dismiss(cells: Sequence[Any]) -> None:
    """On the first rank: lets the others come back."""
    sharing = _sharing(cells)
    if sharing is not None and ranks.rank() == 0:
        sharing.method.dismiss()


def _sharing(cells: Sequence[Any]) -> Any:
    """A cell whose method shares prompts; None where there is none, or nobody to share with."""
    if ranks.ranks() == 1:
        return None
    return next(filter(ranks.uses_ranks, cells), None)


def _follow(prepared: Any, session: Any) -> None:
    runner = session.runner(prepared)
    prepared.method.follow(lambda *chosen: replace(runner, ops=ops.backend(*chosen)))
