"""What all floors share: plain data and protocols. Importing this package imports no torch."""

from pcbench.types.contexts import ContextMethod
from pcbench.types.costs import Cost, causal_flops, linear_flops
from pcbench.types.kv_dtypes import KV_BLOCK, KVDtype, code_bytes
from pcbench.types.measured import CHAT_DATE, SCHEMA, Cell, DeviceKind, Part, Record, Sample, Status, digest
from pcbench.types.pressed import Pressed, PressedModel
from pcbench.types.protocols import (
    AttentionPlan,
    Method,
    MethodConfig,
    ModelRunner,
    ModelSpec,
    Ops,
    Prefilled,
    Prompt,
    Rotary,
    Rows,
    Stages,
    Tokenizer,
    beyond_training,
    no_stages,
)
from pcbench.types.reading import Reads, ReadsWhole
from pcbench.types.stores import KVRows, KVStore, QuantizedRows, RaggedKVStore, Segments
from pcbench.types.titles import placed, weighed

__all__ = [
    "CHAT_DATE",
    "KV_BLOCK",
    "SCHEMA",
    "AttentionPlan",
    "Cell",
    "ContextMethod",
    "Cost",
    "DeviceKind",
    "KVDtype",
    "KVRows",
    "KVStore",
    "Method",
    "MethodConfig",
    "ModelRunner",
    "ModelSpec",
    "Ops",
    "Part",
    "Prefilled",
    "Pressed",
    "PressedModel",
    "Prompt",
    "QuantizedRows",
    "RaggedKVStore",
    "Reads",
    "ReadsWhole",
    "Record",
    "Rotary",
    "Rows",
    "Sample",
    "Segments",
    "Stages",
    "Status",
    "Tokenizer",
    "beyond_training",
    "causal_flops",
    "code_bytes",
    "digest",
    "linear_flops",
    "no_stages",
    "placed",
    "weighed",
]
