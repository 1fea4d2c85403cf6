"""The JSON schema of FHIR R4 (tests/fhir): what it finds wrong in a resource."""

from __future__ import annotations

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft6Validator

_FILE = Path(__file__).parents[1] / "fhir" / "fhir.schema.json.xz"


@cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(lzma.decompress(_FILE.read_bytes()))
    return schema


@cache
def _validator(kind: str) -> Draft6Validator:
    """For one kind of resource: the schema's own root tries all of them, one after the other."""
    return Draft6Validator({**_schema(), "oneOf": [{"$ref": f"#/definitions/{kind}"}]})


def problems(resource: dict[str, Any]) -> list[str]:
    """One line for each problem; a Bundle's resources are judged each by its own kind."""
    kind = resource["resourceType"]
    inner: list[str] = []
    if kind == "Bundle":
        entries = [dict(entry) for entry in resource.get("entry", ())]
        inner = [line for entry in entries if "resource" in entry for line in problems(entry.pop("resource"))]
        resource = {**resource, **({"entry": entries} if entries else {})}
    errors = _validator(kind).iter_errors(resource)
    leaves = [leaf for error in errors for leaf in (error.context or [error])]
    return [f"{kind}{leaf.json_path.removeprefix('$')}: {leaf.message[:200]}" for leaf in leaves] + inner
