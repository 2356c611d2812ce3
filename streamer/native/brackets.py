"""Brackets of JSON."""

from __future__ import annotations


def openings(text: bytes) -> int:
    """How many `[` and `{` a text has."""
    return text.count(b"[") + text.count(b"{")
