"""Reads the layers that settings come from and remembers where each value was found.

Knows keys and places, no types: values are validated by `settings`. Later layers win.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamer.errors import UsageError

PREFIX = "STREAMER_"
DEFAULT_CONFIG = Path("streamer.toml")

KnownKeys = Mapping[str, Mapping[str, bool]]
"""Section, as `kafka` or `sink.redis`, -> key -> whether it is a secret."""


class SettingsError(UsageError):
    """A setting is unknown or has a bad value; the text names key, place and expectation."""


@dataclass
class Layered:
    """Values by (section, key), each with the place that it was read from."""

    known: KnownKeys
    values: dict[tuple[str, str], tuple[object, str]] = field(default_factory=dict)

    def put(self, section: str, key: str, value: object, place: str) -> None:
        """Sets one value; a `<secret>_file` key sets the secret to what that file holds."""
        keys = self.known.get(section)
        if keys is None:
            raise SettingsError(f"{place}: unknown section {section!r}, {_expected(section, self.known)}")
        secret = key.removesuffix("_file")
        if key not in keys and keys.get(secret, False):
            self._refuse_both(section, secret, place)
            self.values[section, secret] = (_secret_from(value, place), f"{place} (the file)")
        elif key not in keys:
            raise SettingsError(f"{place}: unknown key {section}.{key}, {_expected(key, keys)}")
        else:
            self._refuse_both(section, key, place)
            self.values[section, key] = (value, place)

    def _refuse_both(self, section: str, key: str, place: str) -> None:
        _, other = self.values.get((section, key), (None, ""))
        if self.known[section][key] and _layer_of(other) == _layer_of(place) != "":
            raise SettingsError(f"{section}.{key} is given twice, as a value and as a file: give one of them")

    def nested(self) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for (section, key), (value, _) in self.values.items():
            table = result
            for name in section.split("."):
                table = table.setdefault(name, {})
            table[key] = value
        return result

    def described(self, section: str, key: str) -> str:
        """`section.key = value (place)`, for messages; a secret's value is left out."""
        if (section, key) not in self.values:
            return f"{section}.{key}"
        value, place = self.values[section, key]
        shown = "" if self.known[section].get(key, False) else f" = {_shown(value)}"
        return f"{section}.{key}{shown} ({place})"


def read_layers(
    known: KnownKeys,
    config: Path | None,
    overrides: Mapping[str, object],
    environ: Mapping[str, str] | None,
) -> Layered:
    layered = Layered(known)
    if config is not None or DEFAULT_CONFIG.is_file():
        _read_toml(layered, config or DEFAULT_CONFIG)
    _read_environment(layered, os.environ if environ is None else environ)
    for dotted, value in overrides.items():
        if value is not None:
            section, _, key = dotted.rpartition(".")
            layered.put(section, key, value, "command line")
    return layered


def _read_toml(layered: Layered, path: Path) -> None:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}), expected a toml file") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not UTF-8, expected a toml file") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: is not valid toml: {error}") from None
    for section, table in document.items():
        if not isinstance(table, dict):
            raise SettingsError(f"{path}: {section!r} stands outside every section, expected [section]")
        _put_table(layered, section, table, str(path))


def _put_table(layered: Layered, section: str, table: Mapping[str, object], place: str) -> None:
    for key, value in table.items():
        inner = f"{section}.{key}"
        if inner in layered.known and isinstance(value, dict):
            _put_table(layered, inner, value, place)
        else:
            layered.put(section, key, value, place)


def _read_environment(layered: Layered, environ: Mapping[str, str]) -> None:
    for name, text in environ.items():
        if not name.startswith(PREFIX) or text == "":
            continue
        section, separator, key = name.removeprefix(PREFIX).lower().rpartition("__")
        if separator:
            layered.put(section.replace("__", "."), key, text, name)
        else:
            _refuse_single_underscore(layered.known, name)


def _refuse_single_underscore(known: KnownKeys, name: str) -> None:
    """STREAMER_KAFKA_CLIENT_ID would be ignored silently; other names are nobody's settings."""
    section, _, key = name.removeprefix(PREFIX).lower().partition("_")
    if key in known.get(section, {}):
        meant = f"{PREFIX}{section}__{key}".upper()
        raise SettingsError(f"{name}: one underscore between section and key, expected {meant}")


def _secret_from(value: object, place: str) -> str:
    try:
        return Path(str(value)).read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise SettingsError(f"{place}: cannot read {value} ({reason}), expected a file") from None


def _layer_of(place: str) -> str:
    return PREFIX if place.startswith(PREFIX) else place.removesuffix(" (the file)")


def _expected(found: str, choices: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(found, choices, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"expected one of {', '.join(sorted(choices))}"


def _shown(value: object) -> str:
    """For messages. What stands before an @, as in addresses of other systems, may be a password."""
    text = re.sub(r"[^\s,/'\"]+@", "***@", repr(value))
    return text if len(text) <= 80 else f"{text[:77]}..."
