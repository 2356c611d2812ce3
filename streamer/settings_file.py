"""A settings file with every setting and what each is for: `settings.toml`, with some of them set."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources

_SECTION = re.compile(r"\[([a-z._]+)\]")
_SETTING = re.compile(r"(?:# )?([a-z_]+) = (.*?)(\s+# .*)?")


def settings_file(values: Mapping[str, object]) -> str:
    """TOML in which the settings of `values`, by `section.key`, are set, and all others commented out.

    Raises KeyError for a setting that isn't there.
    """
    left = dict(values)
    template = resources.files("streamer").joinpath("settings.toml").read_text(encoding="utf-8")
    lines, section = [], ""
    for line in template.splitlines():
        if (header := _SECTION.fullmatch(line)) is not None:
            section = header[1]
        elif (setting := _SETTING.fullmatch(line)) is not None:
            key, default, comment = f"{section}.{setting[1]}", setting[2], setting[3] or ""
            if key in left:
                line = f"{setting[1]} = {_toml(left.pop(key))}{comment}"
            else:
                line = f"# {setting[1]} = {default}{comment}"
        lines.append(line)
    if left:
        raise KeyError(next(iter(left)))
    return "\n".join([*lines, ""])


def _toml(value: object) -> str:
    """JSON's texts, numbers, booleans and lists of these are TOML's too, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
