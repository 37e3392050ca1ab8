"""What all floors share: plain data and protocols. Importing this package imports no torch."""

from pcbench.types.measured import SCHEMA, Cell, DeviceKind, Kind, Record, Sample, Status, digest
from pcbench.types.protocols import (
    AttentionPlan,
    Cost,
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
    causal_flops,
)

__all__ = [
    "SCHEMA",
    "AttentionPlan",
    "Cell",
    "Cost",
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
    "causal_flops",
    "digest",
]
