"""What stands for an id and for a record in the log of look-ups (lookup.avsc)."""

from __future__ import annotations

import hashlib

from xxhash import xxh3_64_hexdigest


class IdHash:
    """A keyed hash of ids: equal for equal ids of one view, and of no use without the key."""

    def __init__(self, key: str) -> None:
        """`key`: 16 to 64 bytes of UTF-8."""
        self._key = key.encode()

    def __call__(self, view: str, id_: str) -> str:
        """32 hex digits. `view`: visitors or users."""
        hashed = hashlib.blake2b(id_.encode(), key=self._key, digest_size=16, person=view.encode())
        return hashed.hexdigest()


def digest_of(message: bytes) -> str:
    """16 hex digits that stand for a record, a message in its current schema under our own id."""
    return xxh3_64_hexdigest(message)
