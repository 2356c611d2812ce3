"""Texts with and without personal data, made from a seed: what people and forms put into a search or a URL.

Numbers are made by the rules of those who issue them (check digits by python-stdnum, shapes by country), not
by the patterns that look for them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import quote, quote_plus

from stdnum import luhn
from stdnum.iso7064 import mod_97_10

Chance = random.Random


class Sample(NamedTuple):
    kind: str
    """email, card, iban, ssn, phone, account; or harmless."""
    text: str
    secret: str
    """The part that must not be left; empty if harmless."""


_FIRST = ("jo", "anna", "li.wei", "o'neil", "jörg", "maria-luisa", "p_schmidt", "x99")
_HOSTS = ("mail.example", "web.de.example", "firma-gmbh.example", "uni.ac.example", "posteo.example")
_CARDS = (("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("34", 15), ("37", 15), ("6011", 16), ("36", 14))
_IBANS = (
    ("DE", "n18"),
    ("FR", "n23"),
    ("NL", "a4n10"),
    ("GB", "a4n14"),
    ("ES", "n20"),
    ("AT", "n16"),
    ("NO", "n11"),
)
_PHONES = (
    *("+49 1## #######", "01## #######", "030 ########", "+1 2## ### ####", "(3##) ###-####", "4##-###-####"),
    *(
        "+44 7### ######",
        "020 7### ####",
        "06 ## ## ## ##",
        "+33 6 ## ## ## ##",
        "+43 664 #######",
        "0041 79 ### ## ##",
    ),
    *(
        "+34 6## ### ###",
        "+31 6 ########",
        "+48 5## ### ###",
        "+46 70 ### ## ##",
        "0171/#######",
        "8## ### ## ##",
    ),
)
_BEFORE = (
    "",
    "",
    "my number is ",
    "pay ",
    "konto ",
    "why was ",
    "iban ",
    "tel ",
    "block ",
    "rechnung an ",
    "call ",
)
_AFTER = ("", "", " please", " not working", " ändern", "?", ", thanks", " charged twice", " heute")
_HARMLESS: tuple[Callable[[Chance], str], ...] = (
    lambda c: f"loan {c.randrange(1, 90) * 1000}",
    lambda c: f"mortgage {c.randrange(100, 990)} 000 eur",
    lambda c: f"{c.randrange(1, 9)},{c.randrange(100, 999)}.{c.randrange(10, 99)} usd in eur",
    lambda c: f"kredit {c.randrange(1, 99)}.{c.randrange(100, 999)},00 €",
    lambda c: f"{c.randrange(1, 28):02}.{c.randrange(1, 12):02}.{c.randrange(1990, 2030)}",
    lambda c: f"opening hours {c.randrange(1990, 2030)}-{c.randrange(1, 12):02}-{c.randrange(1, 28):02}",
    lambda c: f"{c.choice(['10115', '20095', '80331', '90210', 'SW1A 1AA'])} branch",
    lambda c: f"{c.choice(['iphone', 'galaxy s', 'rtx '])}{c.randrange(3, 5090)}",
    lambda c: f"fixed {c.randrange(1, 30)} years {c.randrange(1, 9)}.{c.randrange(0, 99):02} %",
    lambda c: f"form {c.choice(['1040', '1099', 'w-2', '8949', '401k'])} {c.randrange(2015, 2026)}",
    lambda c: f"rent {c.randrange(5, 30)}00 {c.randrange(5, 30)}00",
    lambda c: f"etf msci world wkn {c.choice(['A0RPWH', 'A1JX52', '840400'])}",
    lambda c: f"{c.randrange(1, 12)}/{c.randrange(1, 28)}/{c.randrange(2000, 2030)} statement",
    lambda c: f"version {c.randrange(1, 20)}.{c.randrange(0, 20)}.{c.randrange(0, 99)}",
    lambda c: f"{c.randrange(1, 90)} - {c.randrange(100, 900)} m2",
    lambda c: c.choice(["coffee @ home", "50 % off", "24/7 hotline", "b2b", "sepa", "who is @bank"]),
    lambda c: f"{c.randrange(1, 99)} {c.randrange(1, 99)} lotto {c.randrange(1, 49)}",
    lambda c: f"order {c.randrange(10_000, 9_999_999)}",
)


def personal(seed: int) -> Iterator[Sample]:
    """Without end; as typed, or as a form puts it into a URL."""
    chance = Chance(seed)
    kinds: dict[str, Callable[[Chance], str]] = {
        **{"email": _email, "card": _card, "iban": _iban, "ssn": _ssn, "phone": _phone, "account": _account}
    }
    while True:
        kind = chance.choice(list(kinds))
        secret = kinds[kind](chance)
        yield Sample(kind, chance.choice(_BEFORE) + secret + chance.choice(_AFTER), secret)


def harmless(seed: int) -> Iterator[Sample]:
    """Without end: amounts, dates, names of products and forms, places."""
    chance = Chance(seed)
    while True:
        yield Sample("harmless", chance.choice(_HARMLESS)(chance), "")


def as_url(text: str, chance: Chance) -> str:
    """The text as a segment of a path: encoded once, by one of two ways, or twice."""
    encode = chance.choice([quote, quote_plus, lambda t: quote(quote(t, safe=""), safe="%")])
    return f"https://bank.example/search/{encode(text)}"


def _digits(chance: Chance, count: int) -> str:
    return "".join(chance.choices("0123456789", k=count))


def _grouped(text: str, size: int, separator: str) -> str:
    return separator.join(text[at : at + size] for at in range(0, len(text), size))


def _email(chance: Chance) -> str:
    return f"{chance.choice(_FIRST)}{chance.randrange(100)}@{chance.choice(_HOSTS)}"


def _card(chance: Chance) -> str:
    start, length = chance.choice(_CARDS)
    body = start + _digits(chance, length - len(start) - 1)
    return _grouped(body + luhn.calc_check_digit(body), 4, chance.choice(["", " ", "-", ".", "  "]))


def _iban(chance: Chance) -> str:
    country, shape = chance.choice(_IBANS)
    letters = "".join(chance.choices("ABCDEFGHJKLMNPRSTUVWXYZ", k=4)) if shape[0] == "a" else ""
    body = letters + _digits(chance, int(shape.rpartition("n")[2]))
    whole = country + mod_97_10.calc_check_digits(body + country) + body
    text = _grouped(whole, 4, chance.choice(["", " ", "-"]))
    return text if chance.random() < 0.7 else text.lower()


def _ssn(chance: Chance) -> str:
    separator = chance.choice("- .")
    return separator.join((_digits(chance, 3), _digits(chance, 2), _digits(chance, 4)))


def _phone(chance: Chance) -> str:
    return "".join(_digits(chance, 1) if sign == "#" else sign for sign in chance.choice(_PHONES))


def _account(chance: Chance) -> str:
    return chance.choice("123456789") + _digits(chance, chance.randint(7, 16))
