"""JSON with half a pair of surrogates, as a text that was cut in the middle of an emoji has it.

The grammar allows it and leaves open what becomes of it (RFC 8259, 8.2). Here it becomes U+FFFD, so that a
click isn't lost for one character.
"""

from __future__ import annotations

import re

REPLACEMENT = "\ufffd"
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""A pair, or half a pair in group 1, or any other escape, so that an escaped backslash begins none."""


def with_whole_characters(text: bytes) -> bytes:
    """The text with U+FFFD for each half of a pair of surrogates; equal to `text` if it has none."""
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], text)
