"""Which method to use: what each needs, how well it answers and how fast it is, where most was measured."""

from collections.abc import Sequence

from pcbench.report.page.parts import Block, Section
from pcbench.report.page.tables import Align, Table, filled
from pcbench.report.reading.results import Results
from pcbench.report.verdict.choosing.asked import Asked
from pcbench.report.verdict.choosing.candidates import Setting, settings
from pcbench.report.verdict.choosing.commands import accuracy_commands, memory_commands
from pcbench.report.verdict.choosing.table import columns
from pcbench.report.verdict.choosing.words import answer, remarks

__all__ = ["choose"]


def choose(results: Results) -> Section | None:
    """An answer and a table for every model, dtype and machine; None without two methods that may be compared."""
    found = [setting for setting in settings(results, Asked()) if len(setting.candidates) > 1]
    if not found:
        return None
    return Section(
        "choose",
        "Which method should I use?",
        "Measured memory, accuracy and speed side by side, at the longest length at which most methods were measured. "
        "For a memory and a length of your own: `pcbench choose RUN --memory 24GiB --context 131072`.",
        [_block(results, setting, several=len(found) > 1) for setting in found],
    )


def _block(results: Results, setting: Setting, *, several: bool) -> Block:
    title = f"{setting.title}, {setting.context:,} tokens"
    tables = [_table(title, results, setting), *_commands(title, setting)]
    return Block(title if several else "", notes=[answer(setting), *remarks(setting)], tables=tables)


def _table(title: str, results: Results, setting: Setting) -> Table:
    shown = columns(results, setting)
    titles: Sequence[tuple[str, Align]] = [(name, "text") for name in shown]
    return filled(f"Methods to choose from: {title}", titles, [list(row) for row in zip(*shown.values(), strict=True)])


def _commands(title: str, setting: Setting) -> list[Table]:
    """What is missing, with the commands that measure it."""
    lacking = {"memory": memory_commands(setting), "accuracy": accuracy_commands(setting)}
    rows = [[what, command] for what, commands in lacking.items() for command in commands]
    caption = f"Commands that measure what is missing: {title}"
    return [Table(caption, [("what", "text"), ("command", "code")], rows)] if rows else []
