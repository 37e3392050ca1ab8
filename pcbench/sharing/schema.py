"""The formats of a run's files as JSON Schema, made from the types that read them."""

from dataclasses import MISSING, fields
from typing import Any, Literal

from pydantic.json_schema import GenerateJsonSchema

from pcbench.records import Manifest
from pcbench.rows import ASCENDING, ROWS
from pcbench.types import SCHEMA, Record, Sample

__all__ = ["FILES", "schema"]

Name = Literal["records", "samples", "manifest"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# which part of a run's folder has the format
FILES: dict[Name, str] = {"records": "records.jsonl", "samples": "samples.jsonl", "manifest": "manifest.json"}
LINES = (
    "Format {} of {}: every line is such an object. A field that does not apply is null; unknown fields are refused."
)
ORDER = " Beyond what a schema can say, each of these is at most the next: {}."
WHOLE = "Format {} of {}: such an object. Other keys may stand in it."


class _Untitled(GenerateJsonSchema):
    """Without titles that only repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema(name: Name) -> dict[str, Any]:
    """What pcbench writes under a name of `FILES`, by draft 2020-12.

    The reader of a run's folder is stricter in two things: percentiles and intervals ascend, which only the description
    says, and 1.0 is no integer. The schema is stricter in one: `schema`, the number of the format, must be there.

    Args:
        name: of the file.
    """
    if name == "manifest":
        found = Manifest.model_json_schema(schema_generator=_Untitled)
        said = WHOLE.format(SCHEMA, FILES[name])
    else:
        kind = Record if name == "records" else Sample
        found = ROWS[kind].table.model_json_schema(schema_generator=_Untitled)
        _set_defaults(found["properties"], kind)
        said = LINES.format(SCHEMA, FILES[name])
    if name == "records":
        said += ORDER.format("; ".join(", ".join(names) for names in ASCENDING))
    # lines of samples have no number: that of the manifest beside them counts
    if name != "samples":
        found["properties"] = {"schema": {"const": SCHEMA}} | found["properties"]
        found["required"] = ["schema", *found["required"]]
    for part in found.get("$defs", {}).values():
        part.pop("description", None)
    # the format's number is part of its name
    head = {"$schema": DIALECT, "$id": f"urn:pcbench:{name}:{SCHEMA}", "title": f"pcbench {name}", "description": said}
    return head | {key: value for key, value in found.items() if key not in head}


def _set_defaults(properties: dict[str, Any], kind: type[Record] | type[Sample]) -> None:
    """Those of the dataclass: the table that reads it has none of its own."""
    for field in fields(kind):
        found = properties.get(field.name, {})
        found.pop("default", None)
        if field.default_factory is not MISSING:
            found["default"] = field.default_factory()
        elif field.default is not MISSING:
            found["default"] = field.default
