"""The published JSON Schema of result.json, one file a version. Loads no torch.

``result-N.json`` beside this file is what results of schema version N keep to. That of the present version is made
from the model: ``python -m ssl3d.results.schema`` prints it.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from ssl3d.results.model import SCHEMA_VERSION, ResultFile


def published(version: int = SCHEMA_VERSION) -> dict[str, Any]:
    """Return the schema of a version, as it is published.

    Raises:
        FileNotFoundError: there is no such version.
    """
    content: dict[str, Any] = json.loads(files(__package__).joinpath(f"result-{version}.json").read_text("utf-8"))
    return content


def generated() -> str:
    """Return the schema of the present version, as its model gives it: the text of its file."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:ssl3d:result:{SCHEMA_VERSION}",
        **ResultFile.model_json_schema(),
        "title": f"ssl3d result.json, schema version {SCHEMA_VERSION}",
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
