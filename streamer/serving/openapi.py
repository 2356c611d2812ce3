"""The service's OpenAPI document (3.1): records as their Avro schemas have them, and codes of refusals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from streamer.schemas import codec
from streamer.schemas.click import MAX_ID_BYTES
from streamer.serving import problems
from streamer.serving.lookups import RECORD_AGE, VECTORS, VIEW_AGE
from streamer.serving.problems import MEDIA_TYPE, Code

Node = dict[str, Any]

_SCALARS: dict[str, Node] = {
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "int": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"},
    "float": {"type": ["number", "null"], "format": "float"},
    "double": {"type": ["number", "null"], "format": "double"},
}
"""Numbers may be null: JSON has none that are infinite or not a number."""
_OF_ANY = (problems.NO_TOKEN, problems.TOO_MANY_LOOKUPS, problems.FAILED, problems.WARMING_UP)
_OF_ONE = (
    problems.MALFORMED_ID,
    problems.UNKNOWN_SPACE,
    problems.UNKNOWN_ID,
    problems.ERASED,
    problems.OTHER_PARTITION,
    problems.UNREADABLE_RECORD,
)
_OF_BATCH = (problems.MALFORMED_BODY, problems.UNKNOWN_SPACE, problems.BATCH_TOO_LARGE)


_OF_SIMILAR = (*_OF_ONE, problems.MALFORMED_COUNT, problems.NO_VECTOR)


def document(
    names: Iterable[str], version: str, max_batch: int, needs_token: bool, has_similar: bool
) -> Node:
    """Of a service with these collections. `max_batch`: ids in a batch at most. `has_similar`: who is similar
    may be asked."""
    paths: Node = {}
    for name in names:
        paths[f"/v1/{name}/{{id}}"] = {"get": _one(name)}
        paths[f"/v1/{name}:batchGet"] = {"post": _batch(name, max_batch)}
        if has_similar:
            paths[f"/v1/{name}/{{id}}/similar"] = {"get": _similar(name, max_batch)}
    paths["/livez"] = {"get": _health("Whether the process is to go on")}
    paths["/readyz"] = {"get": _health("Whether it is to get requests")}
    paths["/metrics"] = {"get": _plain("Metrics for Prometheus", "text/plain", {"type": "string"})}
    paths["/openapi.json"] = {"get": _plain("This document", "application/json", {"type": "object"})}
    components: Node = {
        "schemas": {
            "VisitorIntent": _record("visitor_intent"),
            "UserIntent": _record("user_intent"),
            "Problem": _problem(),
            "Health": _object(
                {"ok": {"type": "boolean"}, "reasons": {"type": "array", "items": {"type": "string"}}}
            ),
        },
        "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Clicks to intent: look-ups",
            "version": version,
            "description": "The latest records of visitors and customers. Nothing can be changed here.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": components,
        "security": [{"bearer": []}] if needs_token else [],
    }


def _one(name: str) -> Node:
    what = _ref(_SCHEMA_OF[name])
    return {
        "operationId": f"get_{name}",
        "summary": f"The latest record of one of the {name}",
        "parameters": [
            _ID_IN_PATH,
            _SPACE,
            {
                "name": "If-None-Match",
                "in": "header",
                "schema": {"type": "string"},
                "description": "ETags of answers that the caller has",
            },
        ],
        "responses": {
            "200": {
                "description": "The record",
                "headers": _HEADERS,
                "content": {"application/json": {"schema": what}},
            },
            "304": {"description": "The caller has this answer", "headers": _HEADERS},
            **_refusals((*_OF_ONE, *_OF_ANY)),
        },
    }


def _similar(name: str, max_batch: int) -> Node:
    neighbour = _object({"id": {"type": "string"}, "cosine": {"type": "number"}})
    answer = _object({"space": {"type": "string"}, "similar": {"type": "array", "items": neighbour}})
    return {
        "operationId": f"get_similar_{name}",
        "summary": f"The {name} whose vectors are nearest to one's, the nearest first",
        "parameters": [
            _ID_IN_PATH,
            {
                "name": "count",
                "in": "query",
                "schema": {"type": "integer", "minimum": 1, "maximum": max_batch},
                "description": "How many at most",
            },
            {
                "name": "space",
                "in": "query",
                "schema": {"type": "string"},
                "description": "The embedding space that the record's vector has to be of",
            },
        ],
        "responses": {
            "200": {
                "description": "Their ids",
                "headers": {VIEW_AGE: _HEADERS[VIEW_AGE]},
                "content": {"application/json": {"schema": answer}},
            },
            **_refusals((*_OF_SIMILAR, *_OF_ANY)),
        },
    }


def _batch(name: str, max_batch: int) -> Node:
    ids = {"type": "array", "maxItems": max_batch, "items": {"type": "string"}}
    result = _object(
        {
            "id": {"type": "string"},
            "status": {"type": "integer", "description": "As a request for this id alone would have it"},
            "code": {"type": "string", "enum": [code.name for code in _OF_ONE]},
            "record": _ref(_SCHEMA_OF[name]),
        },
        required=["id", "status"],
    )
    return {
        "operationId": f"batch_get_{name}",
        "summary": f"The latest records of several {name}, in the order of their ids",
        "parameters": [_SPACE],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _object({"ids": ids}) | {"additionalProperties": False}}
            },
        },
        "responses": {
            "200": {
                "description": "A result for each id",
                "headers": {VIEW_AGE: _HEADERS[VIEW_AGE]},
                "content": {
                    "application/json": {"schema": _object({"results": {"type": "array", "items": result}})}
                },
            },
            **_refusals((*_OF_BATCH, *_OF_ANY)),
        },
    }


_SCHEMA_OF = {"visitors": "VisitorIntent", "users": "UserIntent"}
_ID: Node = {"type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES}
_ID_IN_PATH: Node = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": _ID,
    "description": "Percent-encoded",
}
_SPACE: Node = {
    "name": "space",
    "in": "query",
    "schema": {"type": "string"},
    "description": "An embedding space: the answer has the vectors too, null where they are of another",
}
_HEADERS: Node = {
    "ETag": {"schema": {"type": "string"}},
    VIEW_AGE: {
        "schema": {"type": "number"},
        "description": "Seconds since brokers last answered for every partition: how old the answer may be",
    },
    RECORD_AGE: {
        "schema": {"type": "integer"},
        "description": "Seconds since the record's session was known to be over",
    },
}


def _refusals(codes: Iterable[Code]) -> Node:
    by_status: dict[str, list[Code]] = {}
    for code in codes:
        by_status.setdefault(str(code.status), []).append(code)
    return {
        status: {
            "description": "; ".join(f"`{code.name}`: {code.meaning}" for code in of_status),
            "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
        }
        for status, of_status in sorted(by_status.items())
    }


def _problem() -> Node:
    return _object(
        {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string", "enum": [code.name for code in problems.CODES]},
            "partitions": {"type": "array", "items": {"type": "integer"}},
            "spaces": {"type": "array", "items": {"type": "string"}},
        },
        required=["type", "title", "status", "detail", "code"],
    )


def _health(summary: str) -> Node:
    content = {"application/json": {"schema": _ref("Health")}}
    return {
        "summary": summary,
        "security": [],
        "responses": {
            "200": {"description": "Yes", "content": content},
            "503": {"description": "No, for these reasons", "content": content},
        },
    }


def _plain(summary: str, media_type: str, schema: Node) -> Node:
    content = {media_type: {"schema": schema}}
    return {
        "summary": summary,
        "security": [],
        "responses": {"200": {"description": summary, "content": content}},
    }


def _record(name: codec.SchemaName) -> Node:
    """A schema's records as JSON; vectors may be left out, or null."""
    schema = codec.schema(name)
    described = _of_avro(schema)
    for vector in VECTORS:
        if vector in described["properties"]:
            described["required"].remove(vector)
            described["properties"][vector]["type"] = ["array", "null"]
    return described | {"description": schema["doc"]}


def _of_avro(avro: Any) -> Node:
    """JSON Schema of what Avro calls a string, a union with null, an array or a record."""
    if isinstance(avro, str):
        return dict(_SCALARS[avro])
    if isinstance(avro, list):
        [of_value] = [_of_avro(each) for each in avro if each != "null"]
        kinds = of_value["type"] if isinstance(of_value["type"], list) else [of_value["type"]]
        return of_value | {"type": list(dict.fromkeys([*kinds, "null"]))}
    if avro["type"] == "array":
        return {"type": "array", "items": _of_avro(avro["items"])}
    fields = {field["name"]: _of_avro(field["type"]) for field in avro["fields"]}
    for field in avro["fields"]:
        if "doc" in field:
            fields[field["name"]]["description"] = field["doc"]
    return _object(fields)


def _object(properties: Node, required: list[str] | None = None) -> Node:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }


def _ref(name: str) -> Node:
    return {"$ref": f"#/components/schemas/{name}"}
