"""pcbench for programs and notebooks: a run and its records, a page of it, a model by its name."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pcbench.config import parse_value
from pcbench.errors import ConfigError, shown
from pcbench.records import read_run
from pcbench.types import Record, Sample

if TYPE_CHECKING:
    import pandas
    import torch

__all__ = ["Loaded", "Run", "load_model", "run"]

Sets = Sequence[str] | Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """The folder of a run, finished or not.

    Args:
        path: the folder.
    """

    path: Path

    def __post_init__(self) -> None:
        # where it is, whatever the working folder becomes
        object.__setattr__(self, "path", Path(self.path).absolute())

    def records(self) -> "pandas.DataFrame":
        """One row a cell, as in records.jsonl: the fields of `pcbench.types.Record` in their order.

        Raises:
            DataMissing: the folder holds no run.
            ConfigError: a file is not what a run writes.
        """
        return _frame(read_run(self.path)[1], Record)

    def samples(self) -> "pandas.DataFrame":
        """One row a prompt and cell, as in samples.jsonl; `cell` is that of the records. Errors as of `records`."""
        return _frame(read_run(self.path)[2], Sample)

    def report(self, page: str | Path | None = None) -> Path:
        """Builds the report; errors as of `records`.

        Args:
            page: the HTML file; None is report.html in the folder.

        Returns:
            The file.
        """
        from pcbench.report import build

        return build([self.path], None if page is None else Path(page))


def run(
    suite: str | Path,
    *,
    device: str = "auto",
    preset: str | None = None,
    model: str | Path | None = None,
    methods: Sequence[str] = (),
    tasks: Sequence[str | Path] = (),
    sets: Sets = (),
    limit: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    isolate: bool = False,
) -> Run:
    """Measures a suite, as `pcbench run` does; every finished cell is a line on stderr, in a notebook on stdout.

    What a cell ran into, as too little memory, is in its record: a run whose every cell is error or unsupported is
    returned like any other, where the command line exits with 1 or 2. The data folder of this process is as before; a
    working folder that a `module:Class` was found in stays on sys.path, and torch, once imported, may set variables
    of its own.

    Args:
        suite: a name of `pcbench list suites`, or a .toml file.
        device: auto, cpu, cuda or rocm.
        preset: of the suite.
        model: a name of `pcbench list models`, a Hugging Face id or a folder; None takes the suite's.
        methods: only these, or ops of a suite of kernels; one that the suite lacks gets a cell with its defaults.
        tasks: answered in place of an accuracy suite's: names of `pcbench list tasks`, or .jsonl files of records.
        sets: what `--set` says, as `["suite.repeats=3"]` or `{"suite.repeats": 3}`; values are texts, numbers of
            Python or numpy, truth values, lists and tables.
        limit: prompts, or rounds of a kernel, per cell at most.
        out: the run's folder; None makes one below reports/runs.
        resume: go on with the run in `out`.
        isolate: every group in a process of its own.

    Returns:
        The run.

    Raises:
        ConfigError: anything unknown or impossible.
        PcbenchError: nothing was begun, or the run was stopped.
    """
    _import_bars()
    from pcbench.harness.runner import Options
    from pcbench.harness.runner import run as measure
    from pcbench.tasks.files import same_data_dir

    for name, values in (("methods", methods), ("tasks", tasks), ("sets", sets)):
        if isinstance(values, str):
            raise ConfigError(f"run: {name}: a list, got {shown(values)}; put it into brackets")
    for method in methods:
        if not isinstance(method, str):
            raise ConfigError(
                f"run: methods: names, got {shown(method)}; put it into a module and name it module:Class"
            )
    folder = None if out is None else Path(out)
    lists = {"methods": list(methods), "sets": _told(sets), "tasks": [str(task) for task in tasks]}
    more: Any = {"limit": limit, "out": folder, "resume": resume, "isolate": isolate}
    options = Options(str(suite), device, preset, None if model is None else str(model), **lists, **more)
    with same_data_dir():
        return Run(measure(options, _console())[0].path)


class Loaded(NamedTuple):
    """A model in eval mode without gradients, and its tokenizer: what `pcbench.answer` takes."""

    model: Any
    tokenizer: Any


def load_model(name: str | Path, *, device: str = "auto", dtype: "str | torch.dtype | None" = None) -> Loaded:
    """Loads a model and holds it once against its own stock forward.

    Args:
        name: a name of `pcbench list models`, a Hugging Face id or a folder.
        device: auto, cpu, cuda or rocm.
        dtype: float32, bfloat16 or float16, of torch or its name; None is float32 on a CPU and bfloat16 on a GPU.

    Returns:
        The model and its tokenizer; of a model named `random:…` one that takes bytes for tokens.

    Raises:
        ConfigError: an unknown name or dtype, or an architecture that is not supported.
        DataMissing: the model is not on this machine.
        BackendUnavailable: the device is not there.
    """
    import torch

    _import_bars()
    from pcbench import ops
    from pcbench.measure.machine.devices import Build, resolve_device, torch_device
    from pcbench.models import load_runner
    from pcbench.models.tokens import HFTokenizer

    kind = resolve_device(device, Build.here())
    dtypes = {str(known).removeprefix("torch."): known for known in (torch.float32, torch.bfloat16, torch.float16)}
    wanted = str(dtype or ("float32" if kind == "cpu" else "bfloat16")).removeprefix("torch.")
    if wanted not in dtypes:
        raise ConfigError(f"load_model: dtype: {', '.join(dtypes)}, got {shown(dtype)}; name one of them")
    runner = load_runner(str(name), torch_device(kind), dtypes[wanted], ops.backend("reference"))
    tokenizer = runner.tokenizer
    return Loaded(runner.model, tokenizer.tokenizer if isinstance(tokenizer, HFTokenizer) else tokenizer)


def _import_bars() -> None:
    """What a library's progress bars say of a notebook without widgets, when they are first imported, says no run."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        import_module("tqdm.auto")


def _told(sets: Sets) -> list[str]:
    """As the command line has them."""
    if isinstance(sets, Mapping):
        return [f"{key}={_set(key, value)}" for key, value in sets.items()]
    for text in sets:
        if not isinstance(text, str):
            raise ConfigError(f'run: sets: texts as "suite.repeats=3" or a table, got {shown(text)}; write KEY=VALUE')
    return list(sets)


def _set(key: str, value: Any) -> str:
    """A text stays as it is where nobody takes it for something else, as nobody takes a folder's name."""
    text = str(value)
    plain = isinstance(value, str | Path) and (key == "data.dir" or parse_value(text) == text)
    return text if plain else _toml(value, f"run: sets: {key}")


def _toml(value: Any, where: str) -> str:
    """A value in TOML; `where` it stands, for the error about what has no place there."""
    import numpy

    if isinstance(value, numpy.generic):
        value = value.item()
    if isinstance(value, Mapping):
        inner = [f"{_quoted(str(key))} = {_toml(x, f'{where}.{key}')}" for key, x in value.items()]
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(x, f'{where}[{i}]') for i, x in enumerate(value))}]"
    if isinstance(value, str | Path):
        return _quoted(str(value))
    if isinstance(value, bool):
        return str(value).lower()
    # not finite, too, as TOML has them
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, int):
        return int.__repr__(value)
    remedy = "leave the key out" if value is None else 'make sets a list of texts, as ["suite.chat_date=2024-07-26"]'
    raise ConfigError(f"{where}: a text, a number, a truth value, a list or a table, got {shown(value)}; {remedy}")


def _quoted(text: str) -> str:
    # the one control character that JSON leaves as it is and TOML forbids
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _frame(rows: Sequence[Any], kind: type) -> "pandas.DataFrame":
    import pandas

    return pandas.DataFrame([asdict(row) for row in rows], columns=[field.name for field in fields(kind)])


def _console() -> Any:
    """Where progress goes: a notebook shows what stderr says as a fault, and draws no live line, whatever it says."""
    from rich.console import Console

    from pcbench.system.terminal import Terminal

    notebook = Console().is_jupyter
    return Terminal(stderr=not notebook, force_terminal=False if notebook else None)
