"""`pcbench calibrate`: the matrix entropies of a model's heads over samples of a text, as a table."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from pcbench import ops
from pcbench.errors import ConfigError, unknown_name
from pcbench.measure.machine.devices import Build, resolve_device, torch_device
from pcbench.methods.uncomp.entropy import effective_rank, spectrum, truncated_entropy
from pcbench.methods.uncomp.table import KS, About, EntropyTable, Matrix, check_place, default_path, last_part
from pcbench.models import load_runner, model_spec
from pcbench.models.layers import read_by_layers
from pcbench.models.runner import HFRunner
from pcbench.system.surroundings import expanded
from pcbench.tasks.texts import long_text
from pcbench.types import Ops, Segments

__all__ = ["SAMPLES", "TOKENS", "Asked", "calibrate", "measured"]

# as the released tables: heads keep their label in 95 to 97 of 100 samples, so that few are enough
SAMPLES, TOKENS = 4, 4096
# a covariance of fewer rows than columns says nothing of the head
LEAST_TOKENS = 256


@dataclass(frozen=True)
class Asked:
    """What is to be calibrated.

    Args:
        model: a name of `pcbench list models`, a Hugging Face id or a path.
        text: a file of UTF-8; None takes CPython's documentation.
        out: the table's file; None lets it lie where methods look for it.
        samples: pieces of the text, spread evenly over it.
        tokens: of a sample at most.
        matrix: queries, keys or hidden.
        device: auto, cpu, cuda or rocm.
        force: a table that is there is replaced.
    """

    model: str
    text: Path | None = None
    out: Path | None = None
    samples: int = SAMPLES
    tokens: int = TOKENS
    matrix: str = "queries"
    device: str = "auto"
    force: bool = False


def calibrate(asked: Asked, say: Callable[[str], None]) -> Path:
    """Measures a model's table and writes it.

    Returns:
        The file of its numbers.

    Raises:
        ConfigError: an unknown matrix, a text that is too short, a model that is not supported, or a place where
            nothing can be written or a table is.
        DataMissing: the model or the text is not there.
        BackendUnavailable: the device is not there.
    """
    if asked.matrix not in get_args(Matrix):
        raise unknown_name("--matrix", "matrix", asked.matrix, get_args(Matrix))
    text, out = long_text(asked.text, "--text"), asked.out
    if out is not None:
        out = expanded(out, "--out")
        check_place(out, force=asked.force)
    kind = resolve_device(asked.device, Build.here())
    dtype = torch.float32 if kind == "cpu" else torch.bfloat16
    backend = ops.backend(ops.automatic_backend(kind, model_spec(asked.model).head_dim))
    runner = load_runner(asked.model, torch_device(kind), dtype, backend)
    if out is None:
        out = default_path(runner.spec, asked.matrix)
        check_place(out, force=asked.force)
    return measured(runner, text, asked, say).write(out)


def measured(runner: HFRunner, text: str, asked: Asked, say: Callable[[str], None]) -> EntropyTable:
    """The table of a loaded model; `Asked.model`, `text` and `device` have been seen to. Errors as of `calibrate`."""
    spec, matrix = runner.spec, asked.matrix
    pieces = list(_pieces(runner, text, asked))
    ks = [*KS, max(KS[-1] + 1, spec.head_dim, spec.hidden if matrix == "hidden" else 0)]
    sums = Sums(ks)
    for i, ids in enumerate(pieces):
        _read(runner, ids, matrix, sums)
        say(f"sample {i + 1} of {len(pieces)}: {ids.numel()} tokens")
    entropy, renormalised, curve = sums.means(len(pieces))
    about = About(
        model=spec.name,
        names=sorted({last_part(spec.name), last_part(str(getattr(runner.model, "name_or_path", "") or spec.name))}),
        config_sha256=spec.config_sha256,
        matrix=matrix,
        k=ks,
        texts_sha256=hashlib.sha256(text.encode()).hexdigest(),
        tokens=pieces[0].numel(),
        samples=len(pieces),
        pcbench=version("pcbench"),
    )
    return EntropyTable(about, entropy, renormalised, curve)


@dataclass
class Sums:
    """Over samples, of each layer: K, H and the curve.

    Args:
        ks: eigenvalues that count.
        layers: of each, [2, K, H] entropies, plain and renormalised, and a number, its effective rank.
    """

    ks: list[int]
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def add(self, layer: int, rows: Tensor) -> None:
        """One sample's rows of a layer, [H, N, D]."""
        values = spectrum(rows)
        both = [[truncated_entropy(values, k, renormalise=again) for k in self.ks] for again in (False, True)]
        found = torch.stack([torch.stack(of_ks) for of_ks in both]).cpu(), effective_rank(values).mean().cpu()
        before = self.layers.get(layer)
        self.layers[layer] = found if before is None else (before[0] + found[0], before[1] + found[1])

    def means(self, samples: int) -> tuple[Tensor, Tensor, Tensor]:
        """Entropies [K, L, H], renormalised ones, and the curve [L]."""
        held = [self.layers[layer] for layer in sorted(self.layers)]
        entropy, renormalised = torch.stack([both for both, _ in held], 2) / samples
        return entropy.contiguous(), renormalised.contiguous(), torch.stack([rank for _, rank in held]) / samples


def _read(runner: HFRunner, ids: Tensor, matrix: str, sums: Sums) -> None:
    """One forward over ids [N], of which nothing is stored."""

    def plan(layer: int, q: Tensor, k: Tensor, v: Tensor, store: Any, ops: Ops) -> Tensor:
        if matrix != "hidden":
            sums.add(layer, (q if matrix == "queries" else k)[0])
        out: Tensor = ops.calibrated_attention(q, k, v, scale=runner.spec.scale, causal=True)[0]
        return out

    nothing = torch.zeros(1, runner.spec.kv_heads, dtype=torch.int64)
    store = runner.new_ragged_store([Segments(nothing, nothing)] * runner.spec.layers)
    lengths = torch.tensor([ids.numel()], dtype=torch.int32, device=ids.device)
    hidden = matrix == "hidden"
    with read_by_layers(runner.model, runner.spec, sums.add) if hidden else nullcontext():
        runner.forward(ids[None], torch.arange(ids.numel(), device=ids.device)[None], lengths, store, plan)


def _pieces(runner: HFRunner, text: str, asked: Asked) -> Iterator[Tensor]:
    """[N] ids each with the tokenizer's start ids, of one length, spread evenly over the text."""
    ids, start = runner.tokenizer.encode(text), list(runner.start_ids)
    tokens = min(asked.tokens, runner.spec.trained_tokens) - len(start)
    size = min(tokens, len(ids))
    if size < LEAST_TOKENS:
        raise ConfigError(
            f"calibrate: samples of {LEAST_TOKENS} tokens at least, got {size} of {asked.text or 'the documentation'} "
            f"for {runner.spec.name}; name a longer text, or more --tokens"
        )
    for i in range(asked.samples):
        first = i * (len(ids) - size) // max(1, asked.samples - 1)
        yield torch.tensor(start + ids[first : first + size], device=runner.device)
