"""Tasks: prompts of generated and official benchmarks, their answers and their scorers."""

from pcbench.tasks.base import Example, Task, load_task, score, why_not
from pcbench.tasks.examples import example, size
from pcbench.tasks.scorecards.benchmarks import bucket

__all__ = ["Example", "Task", "bucket", "example", "load_task", "score", "size", "why_not"]
