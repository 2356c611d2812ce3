"""Free text of a click, made small, learnable and fit to keep: scrubbed, folded, cut to size.

Rules: nothing leaves here unscrubbed; a text is decoded (percent, plus) before it is scrubbed; what looks
like an id or a token becomes `:id`; cutting never splits a character. No input raises.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote_plus

from streamer.pipeline.scrub import MIN_ACCOUNT_DIGITS, scrub, without_invisible

MAX_SCANNED = 256
"""Characters of a text that are looked at, so that a hostile one costs little: four times what is kept."""
MAX_REMEMBERED = 512
"""Characters of a text that is remembered, as most addresses are shorter."""
MAX_QUERY_BYTES = 64
"""As the kept click promises (`Click.search_query`)."""
MAX_LABEL_BYTES = 64
"""Types, elements and categories are names; of a longer text the beginning says the most."""
MAX_HOST_BYTES = 64
MAX_SEGMENT_BYTES = 48
PATH_DEPTH = 3
"""As the kept click promises (`Click.path`): deeper parts name single things rather than kinds of pages."""

_DECODINGS = 3
"""Links that passed through redirects are percent-encoded twice or three times."""
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//([^/]*)", re.IGNORECASE)
_BARE_HOST = re.compile(r"(?:[\w-]+\.)+[a-z]{2,}(?=[/:]|$)", re.IGNORECASE)
_PLACEHOLDER = re.compile(r":(?:email|iban|card|ssn|phone|account)")

_PLAIN = re.compile(r"(?:https?://[a-z0-9.-]+(?::[0-9]+)?)?((?:/[a-z-]{1,32}){1,3})(?:/([0-9]{1,7}))?/?")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
_LONG_WORD = 32
"""Compound words of German banks stay below."""
_TOKEN = 12
"""A word of this length with a digit in it is a token: the end of a UUID, a hash, a session key."""
_ID_DIGITS = 4
"""With fewer digits (step 2, error 404, 401k) a word identifies nobody."""
_MOST_DIGITS = 7
"""Of a usual number in a path, as products have."""
_PATHS_KEPT = 32_768
_CODE_DIGITS = 6
"""So many digits over several words are a code (ab12-cd34-ef56) or a date."""


class Memo:
    """Remembers what a function made of a text, for the texts that many clicks share.

    Each of its two tables holds at most `size` texts, then starts anew. A text that scrubbing changes, or a
    long one, is remembered by its hash alone (64 bits, keyed anew in each process). Equal results are one
    object, which saves memory wherever clicks are kept.
    """

    def __init__(self, make: Callable[[str], Any], size: int, nothing: Any) -> None:
        self.known: dict[str, Any] = {}
        self._by_hash: dict[int, Any] = {}
        self._nothing = nothing
        self._make = make
        self._size = size

    def of(self, text: str | None) -> Any:
        """What the function makes of the text; of None, `nothing`."""
        if text is None:
            return self._nothing
        known = self.known.get(text, _UNSEEN)
        return self._new(text) if known is _UNSEEN else known

    def _new(self, text: str) -> Any:
        if len(text) > MAX_REMEMBERED or _is_personal(text):
            return self._remembered(self._by_hash, hash(text), text)
        return self._remembered(self.known, text, text)

    def _remembered(self, table: dict[Any, Any], key: Any, text: str) -> Any:
        if key not in table:
            if len(table) >= self._size:
                table.clear()
            table[key] = self._make(text)
        return table[key]


_UNSEEN = object()


def label(text: str) -> str | None:
    """A name, words one space apart, at most MAX_LABEL_BYTES; None for an empty one."""
    return cut(scrub(_tidy(text)), MAX_LABEL_BYTES) or None


def search_query(text: str) -> str | None:
    """What was typed, case folded, words one space apart; None if nothing was."""
    return cut(scrub(_tidy(text).casefold()), MAX_QUERY_BYTES) or None


def readable(text: str) -> str:
    """A text for people's eyes: decoded, at most MAX_SCANNED characters, words one space apart, scrubbed."""
    return scrub(_tidy(_decoded(text)))


def path_of(url: str) -> str | None:
    """`https://host/Loans/mortgage/rates/2024?x=1` -> `/loans/mortgage/rates`; None if it has no path.

    A segment with personal data becomes the placeholder for it, a token `:id`, `article-12345` `article-:id`.
    """
    address = url.partition("?")[0].partition("#")[0].strip().replace("\\", "/")
    if not address:
        return None
    authority = _AUTHORITY.match(address)
    if authority:
        address = address[authority.end() :]
    elif address[:4].lower() == "www.":
        address = address.partition("/")[2]
    elif _SCHEME.match(address):
        return None
    kept: list[str] = []
    for segment in address.split("/"):
        made = _segment(segment) if segment else ""
        if made:
            kept.append(made)
            if len(kept) == PATH_DEPTH:
                break
    return "/" + "/".join(kept)


def plain_path_of(url: str) -> str | None:
    """What `path_of` gives, at a tenth of its cost, for the usual address: plain words and at most a number.

    None for any other address. Worth not remembering: shops have an address for every product.
    """
    plain = _PLAIN.fullmatch(url)
    if plain is None:
        return None
    words: str = plain[1]
    number: str | None = plain[2]
    if number is None or words.count("/") == PATH_DEPTH:
        return words
    return f"{words}/:id" if len(number) >= _ID_DIGITS else f"{words}/{number}"


class Paths:
    """`path_of`, remembered: of an address that ends in a usual number, what comes before the number."""

    def __init__(self) -> None:
        self._addresses = Memo(_quick_path_of, _PATHS_KEPT, None)
        self._numbered = Memo(numbered_path_of, _PATHS_KEPT, None)

    def of(self, url: str | None) -> str | None:
        """The path of a URL; what follows its question mark is not looked at."""
        if url is None:
            return None
        mark = url.find("?")
        end = len(url) if mark < 0 else mark
        slash = url.rfind("/", 0, end)
        if slash >= 0 and _is_usual_number(url, slash + 1, end):
            path: str | None = self._numbered.of(url[:slash])
            if path is not None:
                return path
        found: str | None = self._addresses.of(url if mark < 0 else url[:mark])
        return found


def before_query(url: str | None) -> str | None:
    """A URL up to its question mark."""
    if url is None:
        return None
    mark = url.find("?")
    return url if mark < 0 else url[:mark]


class FirstParameter:
    """Finds the value of the first of these parameters that a URL has."""

    def __init__(self, names: Sequence[str]) -> None:
        self._ranks = {name: rank for rank, name in enumerate(names)}
        self._signs = [f"{name}=" for name in names]

    def of(self, url: Any) -> str | None:
        """None if it has none, or is no text."""
        return _parameter_of(url, self._signs, self._ranks) if type(url) is str else None


def _parameter_of(url: str, signs: list[str], ranks: dict[str, int]) -> str | None:
    """The value of the parameter of least rank that has one, and of several the first. None if the URL has
    none of the `signs`, which is quickly seen."""
    at = url.find("?")
    if at < 0:
        return None
    for sign in signs:
        if url.find(sign, at) >= 0:
            break
    else:
        return None
    end = url.find("#", at)
    if end < 0:
        end = len(url)
    found, least = None, len(ranks)
    while at < end:
        start = at + 1
        at = url.find("&", start, end)
        if at < 0:
            at = end
        equals = url.find("=", start, at)
        if 0 <= equals < at - 1:
            rank = ranks.get(url[start:equals], least)
            if rank < least:
                found, least = url[equals + 1 : at], rank
    return None if found is None else unquote_plus(found)


def numbered_path_of(address: str) -> str | None:
    """What `path_of` gives for `address`, a slash and any usual number; None if that depends on it."""
    return None if address[-1:] in "/0123456789" else plain_path_of(f"{address}/{'0' * _ID_DIGITS}")


def _quick_path_of(address: str) -> str | None:
    return plain_path_of(address) or path_of(address)


def _is_usual_number(text: str, start: int, end: int) -> bool:
    """Whether a plain path stays the same with any other number than this part of the text at its end."""
    if not _ID_DIGITS <= end - start <= _MOST_DIGITS:
        return False
    for index in range(start, end):  # noqa: SIM110, a generator costs more than the digits
        if not "0" <= text[index] <= "9":
            return False
    return True


def host_of(url: str) -> str | None:
    """`https://user@www.Bank.example:443/x` -> `www.bank.example`; None if it names no host."""
    address = url.partition("?")[0].partition("#")[0].strip().replace("\\", "/")
    authority = _AUTHORITY.match(address)
    if authority:
        host = authority[1].rpartition("@")[2]
        host = host.partition(":")[0] if host[:1] != "[" else host.partition("]")[0] + "]"
    else:
        bare = _BARE_HOST.match(address[:MAX_SCANNED])
        host = bare[0] if bare else ""
    return cut(scrub(_tidy(host).lower()), MAX_HOST_BYTES) or None


def cut(text: str, max_bytes: int) -> str:
    """The longest beginning of at most `max_bytes` of UTF-8 that splits no character and ends in no space."""
    if len(text) * 4 <= max_bytes:
        return text
    encoded = text.encode()
    if len(encoded) <= max_bytes:
        return text
    return encoded[:max_bytes].decode(errors="ignore").rstrip()


def _segment(raw: str) -> str:
    """One segment of a path, or nothing for one that names nothing (`.`, `..`, `;jsessionid=...`)."""
    if len(raw) <= _LONG_WORD and raw.isascii():  # most are a few words or a short number
        if raw.replace("-", "").isalpha():
            return raw.lower()
        if raw.isdecimal() and len(raw) < MIN_ACCOUNT_DIGITS:
            return ":id" if len(raw) >= _ID_DIGITS else raw
    raw = raw.partition(";")[0]
    if len(raw) > MAX_SCANNED:
        return ":id"
    if _UUID.fullmatch(raw):
        return ":id"
    text = _tidy(_decoded(raw))
    scrubbed = scrub(text)
    if scrubbed is not text:
        found = _PLACEHOLDER.search(scrubbed)
        return found[0] if found else ":id"
    text = text.lower().replace("/", "-").replace(" ", "-")
    return cut(_without_ids(text), MAX_SEGMENT_BYTES) if text.strip(".") else ""


def _without_ids(text: str) -> str:
    words = _WORD.findall(text)
    digits = [sum(map(str.isdecimal, word)) for word in words]
    if any(
        len(word) > _LONG_WORD or (count and len(word) >= _TOKEN)
        for word, count in zip(words, digits, strict=True)
    ):
        return ":id"
    if sum(digits) >= _CODE_DIGITS and sum(map(bool, digits)) > 1:
        return ":id"
    if max(digits, default=0) < _ID_DIGITS:
        return text
    return _WORD.sub(lambda word: ":id" if sum(map(str.isdecimal, word[0])) >= _ID_DIGITS else word[0], text)


def _decoded(text: str) -> str:
    for _ in range(_DECODINGS):
        if "%" not in text and "+" not in text:
            break
        text = unquote_plus(text)
    return text


def _tidy(text: str) -> str:
    """Compatibility forms made plain, nothing invisible, words one space apart, a bounded length."""
    tidy = without_invisible(text[:MAX_SCANNED])
    if not tidy.isascii():
        tidy = unicodedata.normalize("NFKC", tidy)
    if not tidy.isprintable():
        tidy = "".join(letter if letter.isprintable() else " " for letter in tidy)
    tidy = " ".join(tidy.split())
    return tidy if len(text) <= MAX_SCANNED else _without_torn_end(tidy)


def _without_torn_end(text: str) -> str:
    """Half an address or number can't be recognised: the last word goes, and the numbers before it."""
    text = text.rpartition(" ")[0]
    end = len(text)
    while end and not text[end - 1].isalpha():
        end -= 1
    return text[:end]


def _is_personal(text: str) -> bool:
    decoded = _decoded(text)
    return scrub(decoded) is not decoded
