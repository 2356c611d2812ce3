"""Who may look up, and how often: bearer tokens (RFC 6750) and a rate for each of their holders."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aiolimiter import AsyncLimiter

from streamer.errors import UsageError
from streamer.serving.problems import NO_TOKEN, TOO_MANY_LOOKUPS, Refusal

SHORTEST_TOKEN = 16
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_NOBODY = b""
"""The one caller where there are no tokens."""


def parsed_tokens(text: str | None) -> list[str]:
    """One a line; empty lines and those that begin with # don't count. Raises UsageError that shows none."""
    tokens = []
    for number, line in enumerate((text or "").splitlines(), 1):
        token = line.strip()
        if not token or token.startswith("#"):
            continue
        if len(token) < SHORTEST_TOKEN or _TOKEN.fullmatch(token) is None:
            raise UsageError(
                f"serve.tokens: line {number} has {len(token)} characters that are no token, expected "
                f"{SHORTEST_TOKEN} or more letters, digits and -._~+/"
            )
        tokens.append(token)
    if text is not None and not tokens:
        raise UsageError("serve.tokens: no token in it, expected one a line")
    return tokens


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    return host in _LOOPBACK


class Access:
    """Admits callers. Without tokens everybody is one caller."""

    def __init__(self, tokens: list[str], rate_limit: float) -> None:
        """`rate_limit`: look-ups a second of one caller, and as many at once; 0: any number."""
        digests = [_digest(token) for token in tokens] or [_NOBODY]
        self._needs_token = bool(tokens)
        self._limiters: Mapping[bytes, AsyncLimiter | None] = {
            digest: AsyncLimiter(max(rate_limit, 1), 1) if rate_limit else None for digest in digests
        }

    def caller(self, headers: Mapping[str, Any]) -> bytes:
        """Who asks. Raises Refusal."""
        if not self._needs_token:
            return _NOBODY
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        # Looked up by its digest: how long that takes says nothing of the tokens.
        digest = _digest(token.strip())
        if scheme.lower() != "bearer" or digest not in self._limiters:
            raise Refusal(NO_TOKEN, headers={"WWW-Authenticate": "Bearer"})
        return digest

    def admit(self, caller: bytes, lookups: int) -> None:
        """Count so many look-ups. Raises Refusal if they are too many now."""
        limiter = self._limiters[caller]
        if limiter is None or lookups == 0:
            return
        amount = min(lookups, limiter.max_rate)  # a batch beyond it takes all that a second has
        if not limiter.has_capacity(amount):
            raise Refusal(TOO_MANY_LOOKUPS, headers={"Retry-After": "1"})
        with suppress(StopIteration):  # with room for them it ends at its first step: nobody waits
            limiter.acquire(amount).send(None)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()  # a header may be no UTF-8
