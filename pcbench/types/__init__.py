"""What all floors share: plain data and protocols. Importing this package imports no torch."""

from pcbench.types.measured import Cell, DeviceKind, Kind, Record, Sample, Status, digest
from pcbench.types.protocols import (
    AttentionPlan,
    KVRows,
    KVStore,
    Method,
    MethodConfig,
    ModelRunner,
    ModelSpec,
    Ops,
    Prefilled,
    Prompt,
    Stages,
    Tokenizer,
)

__all__ = [
    "AttentionPlan",
    "Cell",
    "DeviceKind",
    "KVRows",
    "KVStore",
    "Kind",
    "Method",
    "MethodConfig",
    "ModelRunner",
    "ModelSpec",
    "Ops",
    "Prefilled",
    "Prompt",
    "Record",
    "Sample",
    "Stages",
    "Status",
    "Tokenizer",
    "digest",
]
