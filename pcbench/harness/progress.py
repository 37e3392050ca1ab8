"""What a person sees while a run goes on: a live line on a terminal, plain lines elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

__all__ = ["Progress"]


class Progress:
    """Counts finished cells.

    Args:
        cells: how many there will be.
        done: how many an earlier run finished.
        console: where to print.
    """

    def __init__(self, cells: int, done: int, console: Console) -> None:
        self.console = console
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.cells, self.done = cells, done
        self.task = self.bar.add_task("starting", total=cells, completed=done)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def working(self, text: str) -> None:
        """What is being measured now."""
        self.bar.update(self.task, description=text)

    def finished(self, text: str) -> None:
        """One cell has its record."""
        self.done += 1
        self.bar.update(self.task, completed=self.done)
        self.say(f"[{self.done}/{self.cells}] {text}")

    def say(self, text: str) -> None:
        """A line that stays."""
        self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
