"""The commands that measure what an answer lacks."""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pcbench.registry import task_tables
from pcbench.report.verdict.choosing.candidates import Candidate, Setting
from pcbench.types.measured import FULL

__all__ = ["Missing", "accuracy_commands", "memory_commands"]

# suites of pcbench by what they measure
OF_MEMORY, OF_ACCURACY = "memory", "accuracy_smoke"
# what is asked where no method has a score yet
TASK = "passkey"
BARE_KEY = re.compile("[A-Za-z0-9_-]+")


@dataclass(frozen=True, eq=False)
class Missing:
    """What one `pcbench run` measures: exactly these methods beside full attention.

    Args:
        suite, model, device: as the options have them.
        tasks: words that name the tasks of files, where there are some.
        values: path of the suite → value.
    """

    suite: str
    model: str
    device: str
    tasks: Sequence[str]
    values: Mapping[str, Any]

    def command(self) -> str:
        """With every value as `--set`.

        Without the head groups of a config that holds its table's hash: they come from that table, and any other is
        refused.
        """
        sets = [word for path, x in self.values.items() for word in ("--set", f"{path}={_bare(_without_groups(x))}")]
        return shlex.join([*self.words(self.suite), *self.tasks, *sets])

    def words(self, suite: str) -> list[str]:
        """The command's first words, of a suite or a file that stands for it."""
        return ["pcbench", "run", "--suite", suite, "--model", self.model, "--device", self.device]

    def preset(self, name: str) -> str:
        """With every value as a preset of the suite's file."""
        lines = [f"{_dotted(path.removeprefix('suite.'))} = {_toml(x)}\n" for path, x in self.values.items()]
        return f"\n[preset.{name}]\n{''.join(lines)}"


def memory_commands(setting: Setting, said: Callable[[Missing], str] = Missing.command) -> list[str]:
    """Of candidates of which measuring at the length would tell whether they fit, each once."""
    limit = setting.asked.memory
    lacking = [
        c for c in setting.candidates if c.need.missing and (limit is None or c.need.fit(limit) == "cannot tell")
    ]
    return [said(_missing(setting, OF_MEMORY, batch, {})) for batch in _batches(lacking)]


def accuracy_commands(setting: Setting, said: Callable[[Missing], str] = Missing.command) -> list[str]:
    """Of candidates that may fit and have no score, beside full attention; none where weights are random."""
    limit = setting.asked.memory
    may_fit = [c for c in setting.candidates if limit is None or c.need.fit(limit) != "does not fit"]
    lacking = [c for c in may_fit if c.accuracy is None] if setting.trained else []
    batches = _batches(lacking)
    return [said(_missing(setting, OF_ACCURACY, batch, tasks)) for tasks in _tasks(setting) for batch in batches]


def _tasks(setting: Setting) -> list[dict[str, list[str]]]:
    """The tasks of one command each: those of files apart from generated ones, which need a number of prompts."""
    names = dict.fromkeys(question.task.partition("@")[0] for question in setting.questions) or {TASK: None}
    known = [name for name in names if name in task_tables()]
    files = [name for name in known if task_tables().of_files(name)]
    made = [name for name in known if name not in files]
    return [{kind: found} for kind, found in (("files", files), ("made", made)) if found]


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


def _missing(setting: Setting, suite: str, batch: Sequence[Candidate], tasks: Mapping[str, list[str]]) -> Missing:
    """Exactly these methods and full attention."""
    values: dict[str, Any] = {
        "suite.methods": list(dict.fromkeys([FULL[0], *(c.record.method for c in batch)])),
        "suite.context_tokens": [setting.context],
        "suite.dtype": setting.dtype,
    }
    if setting.quantize:
        values["suite.quantize"] = setting.quantize
    if "made" in tasks:
        values["suite.tasks"] = tasks["made"]
    for candidate in batch:
        cell = f"cell.{candidate.record.method}"
        if candidate.config:
            values[f"{cell}.config"] = candidate.config
        if candidate.record.backend == "reference":
            values[f"{cell}.backend"] = "reference"
    words = [word for name in tasks.get("files", ()) for word in ("--task", name)]
    return Missing(suite, setting.model, batch[0].record.device, words, values)


def _without_groups(value: Any) -> Any:
    if isinstance(value, dict) and "table_sha256" in value:
        return {key: x for key, x in value.items() if key != "head_groups"}
    return value


def _bare(value: Any) -> str:
    """A value as `--set` takes it: a text without quotes."""
    return value if isinstance(value, str) else _toml(value)


def _dotted(path: str) -> str:
    """A path as a TOML key; the method's name in it may hold dots."""
    head, dot, rest = path.partition(".")
    name, _, last = rest.rpartition(".")
    return f"{head}.{_key(name)}.{last}" if dot else head


def _toml(value: Any) -> str:
    """A value as TOML in one line, tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(x)}" for key, x in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if BARE_KEY.fullmatch(name) else _toml(name)
