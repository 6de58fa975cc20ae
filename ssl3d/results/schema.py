"""The JSON Schemas of records, for reading results without ssl3d. Loads no torch.

``python -m ssl3d.results.schema FOLDER`` writes one file per kind of record.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ssl3d.files import write_atomic
from ssl3d.results.model import (
    SCHEMA_VERSION,
    EncoderRecord,
    EvaluationRecord,
    FailureRecord,
    FeaturesRecord,
    PlanRecord,
    Record,
)
from ssl3d.results.rate_record import RateRecord
from ssl3d.results.records import CONTENT

KINDS: dict[str, type[Record]] = {
    "encoder": EncoderRecord,
    "features": FeaturesRecord,
    "rate": RateRecord,
    "evaluation": EvaluationRecord,
    "failure": FailureRecord,
    "plan": PlanRecord,
}


def schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a kind of record."""
    inner = KINDS[kind].model_json_schema()
    described = {"type": "string", "description": "SHA-256 of everything else in this file, as canonical JSON"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:ssl3d:{kind}:{SCHEMA_VERSION}",
        **inner,
        "title": f"ssl3d {kind}.json, schema version {SCHEMA_VERSION}",
        "properties": {**inner["properties"], CONTENT: described},
        "required": [*inner.get("required", []), CONTENT],
    }


def main(folder: str) -> None:
    """Write every schema into a folder: KIND.schema.json."""
    for kind in KINDS:
        text = json.dumps(schema(kind), indent=2, ensure_ascii=False) + "\n"
        write_atomic(Path(folder) / f"{kind}.schema.json", text)


if __name__ == "__main__":
    main(*sys.argv[1:])
