"""A session as a row."""

from __future__ import annotations

from dataclasses import fields

from streamer.schemas.click import ROW_FIELDS, Session


def test_a_row_is_all_fields_of_a_session_but_its_clicks_in_order() -> None:
    session = Session(
        "id", "visitor", "user", 1, 2, 3, 4, "gap", True, [], is_final=False, revision=5, supersedes="old"
    )
    assert session.row() == tuple(getattr(session, name) for name in ROW_FIELDS)
    assert (*ROW_FIELDS, "clicks") == tuple(
        sorted((field.name for field in fields(Session)), key=lambda name: name == "clicks")
    )
