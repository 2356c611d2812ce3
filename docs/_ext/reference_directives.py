"""What the reference is made of: `avro`, a table of a schema's fields; `commands`, every command's help."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from typer import Context
from typer.cli import get_docs_for_click

from streamer.cli import command_line

SCHEMAS = Path(__file__).parents[2] / "schemas"


def type_name(of: Any) -> str:
    """An Avro type in a few words: `array of string`, `null or timestamp-millis`."""
    match of:
        case str():
            return of
        case list():
            return " or ".join(type_name(each) for each in of)
        case {"type": "array", "items": items}:
            return f"array of {type_name(items)}"
        case {"type": "map", "values": values}:
            return f"map of {type_name(values)}"
        case {"type": "enum", "symbols": symbols}:
            return f"one of {', '.join(symbols)}"
        case {"type": "record", "name": name}:
            return str(name)
        case {"logicalType": logical}:
            return str(logical)
        case {"type": other}:
            return type_name(other)
    raise TypeError(f"{of!r} is no Avro type")


def records_in(schema: Any) -> list[dict[str, Any]]:
    """A record and those within it, outermost first."""
    if isinstance(schema, list):
        return [found for each in schema for found in records_in(each)]
    if not isinstance(schema, dict):
        return []
    found = [schema] if schema.get("type") == "record" else []
    inner = [field["type"] for field in schema.get("fields", [])]
    inner += [schema[key] for key in ("items", "values", "type") if isinstance(schema.get(key), dict | list)]
    return found + [record for each in inner for record in records_in(each)]


def as_markdown(schema: dict[str, Any]) -> str:
    """Each record's documentation and a table of its fields."""
    parts = []
    for number, record in enumerate(records_in(schema)):
        if number:
            parts += [f"**{record['name']}**", ""]
        parts += [record.get("doc", ""), "", "| field | type | meaning |", "|---|---|---|"]
        for field in record["fields"]:
            doc = " ".join(field.get("doc", "").split()).replace("|", "\\|")
            parts.append(f"| `{field['name']}` | {type_name(field['type'])} | {doc} |")
        parts.append("")
    return "\n".join(parts)


def commands() -> str:
    """Every command's help, in Markdown, as Typer writes it, with headings one level down."""
    group = command_line()
    group.load_all()
    text = get_docs_for_click(obj=group, ctx=Context(group, info_name="streamer"), name="streamer")
    return re.sub(r"^#", "##", text, flags=re.MULTILINE)


class AvroDirective(SphinxDirective):
    """Takes the name of a file in `schemas/`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        file = SCHEMAS / self.arguments[0]
        self.env.note_dependency(str(file))
        return self.parse_text_to_nodes(as_markdown(json.loads(file.read_text(encoding="utf-8"))))


class CommandsDirective(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(commands(), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("avro", AvroDirective)
    app.add_directive("commands", CommandsDirective)
    return {"parallel_read_safe": True}
