"""Tasks: prompts of an exact length, their answers and their scorers."""

from pcbench.tasks.base import Example, Task, example, load_task, score, size

__all__ = ["Example", "Task", "example", "load_task", "score", "size"]
