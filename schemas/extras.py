"""Names of what a click may keep beyond its own fields, if the setting `clicks.keep` asks for it.

`page_title`; the campaign's parameters, `utm_source` and its like; `properties.NAME`, of what a site sends.
"""

from __future__ import annotations

import re
from typing import Final

PAGE_TITLE: Final = "page_title"
CAMPAIGN: Final = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
"""Parameters of a page's address, or properties of these names."""
PROPERTY: Final = "properties."
"""What the name of a property begins with."""
MOST_EXTRAS: Final = 15
"""Of one click: what a small map of MessagePack holds."""

_IS_PROPERTY: Final = re.compile(r"properties\.[A-Za-z0-9_$-]{1,48}").fullmatch


def is_extra(name: str) -> bool:
    """Whether `clicks.keep` may have this name."""
    return name == PAGE_TITLE or name in CAMPAIGN or _IS_PROPERTY(name) is not None
