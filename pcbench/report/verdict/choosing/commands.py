"""The commands that measure what an answer lacks."""

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from pcbench.registry import task_tables
from pcbench.report.verdict.choosing.candidates import Candidate, Setting
from pcbench.types.measured import FULL

__all__ = ["accuracy_commands", "memory_commands"]

# suites of pcbench by what they measure
OF_MEMORY, OF_ACCURACY = "memory", "accuracy_smoke"
# what is asked where no method has a score yet
TASK = "passkey"
BARE_KEY = re.compile("[A-Za-z0-9_-]+")


def memory_commands(setting: Setting) -> list[str]:
    """Of candidates of which measuring at the length would tell whether they fit, each once."""
    limit = setting.asked.memory
    lacking = [
        c for c in setting.candidates if c.need.missing and (limit is None or c.need.fit(limit) == "cannot tell")
    ]
    return [_command(setting, OF_MEMORY, batch, ()) for batch in _batches(lacking)]


def accuracy_commands(setting: Setting) -> list[str]:
    """Of candidates that may fit and have no score, beside full attention; none where weights are random."""
    limit = setting.asked.memory
    may_fit = [c for c in setting.candidates if limit is None or c.need.fit(limit) != "does not fit"]
    lacking = [c for c in may_fit if c.accuracy is None] if setting.trained else []
    asked = _tasks(setting)
    return [_command(setting, OF_ACCURACY, batch, tasks) for tasks in asked for batch in _batches(lacking)]


def _tasks(setting: Setting) -> list[list[str]]:
    """Arguments that name the tasks: those of files apart from generated ones, which need a number of prompts."""
    names = dict.fromkeys(question.task.partition("@")[0] for question in setting.questions) or {TASK: None}
    known = [name for name in names if name in task_tables()]
    files = [name for name in known if task_tables().of_files(name)]
    made = [name for name in known if name not in files]
    found = [[word for name in files for word in ("--task", name)]] if files else []
    return found + ([["--set", f"suite.tasks={json.dumps(made)}"]] if made else [])


def _batches(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """As few as there are candidates of one method: a command has one cell of each."""
    batches: list[list[Candidate]] = []
    for candidate in candidates:
        for batch in batches:
            if all(candidate.record.method != other.record.method for other in batch):
                batch.append(candidate)
                break
        else:
            batches.append([candidate])
    return batches


def _command(setting: Setting, suite: str, batch: Sequence[Candidate], extra: Iterable[str]) -> str:
    """`pcbench run` with exactly these methods and full attention."""
    methods = list(dict.fromkeys([FULL[0], *(c.record.method for c in batch)]))
    sets = [
        f"suite.methods={json.dumps(methods)}",
        f"suite.context_tokens=[{setting.context}]",
        f"suite.dtype={setting.dtype}",
        *([f"suite.quantize={setting.quantize}"] if setting.quantize else []),
    ]
    for candidate in batch:
        if candidate.config:
            sets.append(f"cell.{candidate.record.method}.config={_toml(candidate.config)}")
        if candidate.record.backend == "reference":
            sets.append(f"cell.{candidate.record.method}.backend=reference")
    words = ["pcbench", "run", "--suite", suite, "--model", setting.model, "--device", batch[0].record.device, *extra]
    return shlex.join([*words, *(word for text in sets for word in ("--set", text))])


def _toml(value: Any) -> str:
    """A value as TOML in one line, tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(x)}" for key, x in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if BARE_KEY.fullmatch(name) else _toml(name)
