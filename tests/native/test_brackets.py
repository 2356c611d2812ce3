"""Brackets are counted alike in C and in Python."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.native.brackets import openings


@given(st.lists(st.sampled_from([b"[", b"{", b"]", b"}", b'"', b"x" * 239, b"[" * 300])).map(b"".join))
def test_every_opening_counts_however_long_the_text_is(text: bytes) -> None:
    assert openings(text) == sum(byte in b"[{" for byte in text)
