"""Takes personal numbers and addresses out of text: what remains may be kept, logged and learnt from.

Replaced by a placeholder that a tokenizer can learn: `:email`, `:iban`, `:card`, `:ssn` (US social
security and taxpayer numbers), `:phone`, `:account` (any other number of 8 digits or more). Not recognised:
names, postal addresses, jo (at) mail.example, numbers of 7 digits or fewer, digits grouped by commas.
- In doubt a number goes: one lost costs a search a little, one kept can't be taken back.
- Amounts, dates, ranges and version numbers stay, for they carry intent.
- Characters that nobody sees hide nothing: they are looked through.
- Scrubbing twice is scrubbing once. The time is linear in the text, whatever the text.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from string import ascii_lowercase

from stdnum import luhn, numdb

_WORTH_A_LOOK = re.compile(r"[@＠﹫%\d]")
"""The prefilter, with the count of digits: most texts end there."""

_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Controls that are no white space, Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt), which
NFKC_Casefold removes, and the marks of interlinear annotations."""

_NO_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
_MIN_DIGITS = 7
"""Of the shortest phone number; account numbers have more, IBANs too."""

_LOCAL = r"-\w.+'!#$*^{|}~"
_RUN = _LOCAL + "%@＠﹫"
_EMAIL = re.compile(rf"(?<![{_RUN}])[{_RUN}]*?[{_LOCAL}](?:@|＠|﹫|%40)\w[{_RUN}]*+")
"""The whole run of such characters goes. It is tried from its first one only, so the time stays linear."""
_TORN_EMAIL = re.compile(r"(?<![\w.+-])(?!(?<=:)email )[\w.+-]++ ?@ ?(?:[\w-]++\.)++[A-Za-z]{2,}+")
"""With the space that a phone's keyboard adds; a placeholder is nobody's."""
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}+")
"""What may begin with an IBAN. ISO 13616: 15 (Norway) to 34 characters."""
_LETTER_VALUES = {ord(letter): str(value) for value, letter in enumerate(ascii_lowercase, start=10)}

_NUMBERS = re.compile(r"[+(]{0,2}\d++(?:[\s\u2010-\u2015()./+_-]{1,3}+\d++)*+")
"""Numbers that stand together, with the separators that people put within one number."""
_NUMBER = re.compile(r"\d+")
_DATE = re.compile(
    r"(?<!\d)(?:\d{1,2}([./-])\d{1,2}\1(?:19|20)\d\d|(?:19|20)\d\d([./-])\d{1,2}\2\d{1,2})(?!\d)"
    r"|(?<![\d/])\d{1,2}/\d{1,2}/\d\d(?![\d/])"
)

_MOST_NUMBERS = 32
"""Side by side: more are a table or an attack, and would cost a checksum each."""
MIN_ACCOUNT_DIGITS = 8
"""Account numbers of common use have 8 (United Kingdom) to 17 digits (United States)."""
_CARD_DIGITS = range(13, 20)
"""ISO/IEC 7812: at most 19 digits; the shortest in use has 13."""
_CARD_FIRST_DIGITS = "23456"
"""ISO/IEC 7812, major industry: the ones that payment cards begin with."""
_PHONE_DIGITS = range(_MIN_DIGITS, 16)
"""E.164: at most 15 digits; under 7 there is no number that includes an area."""
_NATIONAL_PHONE_DIGITS = range(9, 16)
"""With 0 in front, as most of the world dials an area. From 9, so that 01 02 2024 isn't one."""
_PHONE_SHAPES = ((3, 3, 4), (3, 7), (3, 3, 2, 2))
"""Digits per group: North America, Italy, Switzerland and Turkey without the 0."""
_AMOUNT_LIKE_PHONE = (3, 3, 3)
"""Spain and Poland."""


def scrub(text: str) -> str:
    """The text with what is personal replaced; the very same object if nothing was."""
    if _WORTH_A_LOOK.search(text) is None:
        return text
    seen = without_invisible(text)
    if _has_few_digits(seen):
        return text
    scrubbed = _scrub_ibans(_TORN_EMAIL.sub(":email", _EMAIL.sub(":email", seen)))
    scrubbed = _NUMBERS.sub(_replacement, scrubbed)
    return text if scrubbed == seen else scrubbed


def without_invisible(text: str) -> str:
    """The text as people see it: no zero-width characters, soft hyphens, marks of direction or controls."""
    return text if text.isascii() and text.isprintable() else _INVISIBLE.sub("", text)


def _has_few_digits(text: str) -> bool:
    """Too few for anything but an e-mail address. Text beyond ASCII isn't counted: it has other digits."""
    if "@" in text or "%40" in text or not text.isascii():
        return False
    return len(text.encode().translate(None, _NO_DIGITS)) < _MIN_DIGITS


def _scrub_ibans(text: str) -> str:
    parts, kept_to, search_from = [], 0, 0
    while found := _IBAN.search(text, search_from):
        end = _iban_end(found)
        if end is None:
            search_from = found.start() + 4
        else:
            parts += [text[kept_to : found.start()], ":iban"]
            kept_to = search_from = end
    return "".join([*parts, text[kept_to:]])


def _iban_end(found: re.Match[str]) -> int | None:
    """Where the IBAN ends that begins here, by the length that its country gives it; None if it is none."""
    length = _iban_length(found[0][:2].upper())
    compact = found[0].replace(" ", "").replace("-", "")[:length]
    if length is None or len(compact) < length or not _has_checksum(compact):
        return None
    end = found.start()
    for _ in range(length):
        end += 1
        if found.string[end - 1] in " -":
            end += 1
    return end


@cache
def _iban_length(country: str) -> int | None:
    """ISO 13616 registry, as stdnum carries it: `8!n10!n` after country and check digits makes 22."""
    ((_, entry), *_) = numdb.get("iban").info(country)
    parts = re.findall(r"\d+", entry.get("bban", ""))
    return 4 + sum(map(int, parts)) if parts else None


def _has_checksum(number: str) -> bool:
    """ISO 7064, mod 97, rules out 96 of 97. What a country checks besides is left aside: in doubt it goes."""
    return int((number[4:] + number[:4]).lower().translate(_LETTER_VALUES)) % 97 == 1


def _replacement(found: re.Match[str]) -> str:
    text = found[0]
    if sum(map(str.isdecimal, text)) < _MIN_DIGITS:
        return text
    return _kind(_DATE.sub("/", text)) or text


def _kind(text: str) -> str | None:
    """The placeholder for numbers that stand together, or None if they are nobody's."""
    numbers = [_in_ascii(number) for number in _NUMBER.findall(text)]
    if len(numbers) > _MOST_NUMBERS:
        return ":account"
    lengths = tuple(map(len, numbers))
    digits = sum(lengths)
    if _has_card(numbers):
        return ":card"
    if _has_shape(lengths, (3, 2, 4)):
        return ":ssn"
    if _is_phone(text, numbers, digits):
        return ":phone"
    if max(lengths, default=0) >= MIN_ACCOUNT_DIGITS or _is_grouped_account(numbers):
        return ":account"
    if digits >= MIN_ACCOUNT_DIGITS and _is_spelt_out(text, lengths):
        return ":account"
    return None


def _in_ascii(number: str) -> str:
    return number if number.isascii() else "".join(str(unicodedata.decimal(digit)) for digit in number)


def _has_card(numbers: list[str]) -> bool:
    """Whether neighbouring numbers of two digits or more make a card number."""
    for start, first in enumerate(numbers):
        if first[0] not in _CARD_FIRST_DIGITS:
            continue
        joined = ""
        for index in range(start, len(numbers)):
            joined += numbers[index]
            if len(numbers[index]) < 2 or len(joined) >= _CARD_DIGITS.stop:
                break
            if len(joined) in _CARD_DIGITS and luhn.is_valid(joined):
                return True
    return False


def _has_shape(lengths: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    size = len(shape)
    return any(lengths[at : at + size] == shape for at in range(len(lengths) - size + 1))


def _is_phone(text: str, numbers: list[str], digits: int) -> bool:
    if text.startswith(("+", "(+")) and digits in _PHONE_DIGITS:
        return True
    if not numbers:
        return False
    if len(numbers) > 1 and numbers[0][0] == "0" and digits in _NATIONAL_PHONE_DIGITS:
        return True
    lengths = tuple(map(len, numbers))
    if any(_has_shape(lengths, shape) for shape in _PHONE_SHAPES):
        return True
    return _has_shape(lengths, _AMOUNT_LIKE_PHONE) and not _are_amounts(numbers)


def _are_amounts(numbers: list[str]) -> bool:
    """Round ones (1200 1500 2000), or one in groups of thousands (123 000 000)."""
    return all(number[-1] == "0" for number in numbers) or all(number == "000" for number in numbers[1:])


def _is_grouped_account(numbers: list[str]) -> bool:
    """Three groups of four digits or more of them, that are neither years nor amounts."""
    if _are_amounts(numbers):
        return False
    fours = [number if len(number) == 4 else "" for number in numbers]
    return any(
        all(group) and not all(number.startswith(("19", "20")) for number in group)
        for group in zip(fours, fours[1:], fours[2:], strict=False)
    )


def _is_spelt_out(text: str, lengths: tuple[int, ...]) -> bool:
    """One number in single digits or pairs with one kind of sign between: not so 01/02/24 - 03/04/24."""
    return set(lengths) in ({1}, {2}) and len(set(_NUMBER.split(text)[1:-1])) == 1
