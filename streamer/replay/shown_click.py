"""What is shown of a click to people: never what a customer typed, unless it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from streamer.schemas.click import Click

SHOWN: Final = ("event_type", "page_type", "path", "element", "category", "product_id")


def shown_click(click: Click, show_queries: bool) -> dict[str, Any]:
    """Ready for JSON. `show_queries`: with the query as it is kept, which is scrubbed."""
    shown = {name: getattr(click, name) for name in ("timestamp", *SHOWN, "dwell_ms")}
    shown["has_query"] = click.search_query is not None
    return shown | ({"search_query": click.search_query} if show_queries else {})


def words_of(shown: Mapping[str, Any]) -> list[str]:
    """The same for a line: what the click was and where."""
    words = [str(shown[name]) for name in SHOWN if shown[name] is not None]
    if shown["has_query"]:
        words.append(f'"{shown["search_query"]}"' if "search_query" in shown else "(a search)")
    return words
