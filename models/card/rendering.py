"""A card as a page that needs nothing but itself, as Markdown, and as JSON."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from streamer.models.card.document import Card, Claim


def as_html(card: Card) -> str:
    return _environment().get_template("card.html.j2").render(_context(card))


def as_markdown(card: Card) -> str:
    return _environment().get_template("card.md.j2").render(_context(card))


def as_json(card: Card) -> bytes:
    """Everything but the plots, whose numbers are in the evidence."""
    document = msgspec.to_builtins(card)
    for section in document["sections"]:
        del section["plots"]
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("streamer.models.card", ""),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = _cell
    environment.filters["png"] = lambda content: base64.b64encode(content).decode()
    return environment


def _context(card: Card) -> dict[str, Any]:
    files = {each.name: each for each in card.evidence}

    def place(claim: Claim) -> str:
        return "" if claim.evidence is None else f"{files[claim.evidence].path}#{claim.at}"

    return {"card": card, "files": files, "place": place, "titles": {s.id: s.title for s in card.sections}}


def _cell(text: str) -> str:
    """Text in a table of Markdown."""
    for character in "\\`*_<>[]|":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
