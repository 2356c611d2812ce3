"""Which partitions an instance holds, as the command line says it."""

from __future__ import annotations

import re

from streamer.errors import UsageError

_MOST = 10_000
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def parse_partitions(text: str) -> frozenset[int] | None:
    """`all` (None), or numbers and ranges such as 0,3 or 0-3,7. Raises UsageError."""
    if text == "all":
        return None
    numbers: set[int] = set()
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        first = int(found[1]) if found else 1
        last = int(found[2] or found[1]) if found else 0
        if not first <= last < _MOST:
            raise UsageError(f"--partitions {text!r}: expected all, or numbers and ranges, as 0,3 or 0-3,7")
        numbers.update(range(first, last + 1))
    return frozenset(numbers)
