"""What a sink copies: a topic of records by key, and which of a key's records is the latest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from streamer.client.table import UserTable, VisitorTable, age_order
from streamer.client.view import UserView, View, VisitorView
from streamer.schemas import codec
from streamer.settings import Settings

_DIGITS = 16
_EARLIEST = -(10 ** (_DIGITS - 1))
"""Times before it, in ms, would not be in order as text."""


class _Session(NamedTuple):
    closed_at: int
    started_at: int
    revision: int


@dataclass(frozen=True)
class Source:
    """One topic."""

    name: str
    """visitors or users"""
    topic: str
    schema: codec.SchemaName
    key: str
    """The field that names whose record it is."""
    view: type[View[Any]]
    """Has the rule of whose tombstones count."""
    is_by_age: bool
    """Whether the latest is the one with the greatest age; else it is the last in the log."""

    def age(self, record: codec.Record) -> str:
        """Greater as text, of a later record of the same key; empty where the log's order counts."""
        if not self.is_by_age:
            return ""
        session = _Session(record["closed_at"], record["started_at"], record["revision"])
        return "".join(f"{number - _EARLIEST:0{_DIGITS}d}" for number in age_order(session))


def sources_of(settings: Settings) -> list[Source]:
    """Visitors, and users where there are any."""
    every = (
        Source("visitors", settings.topics.visitors, VisitorTable.schema, "visitor_id", VisitorView, True),
        Source("users", settings.topics.users, UserTable.schema, "user_id", UserView, False),
    )
    return [source for source in every if source.name in settings.looked_up]
