"""A session as lines of text for a language model or a reviewer: short, without ids or times of day.

    desktop, from search.example, 7 clicks in 4 min
    page_view product /loans/mortgage 35s
    search "fixed rate mortgage"
    (3 clicks left out)

Every text of a visitor or a site goes through `scrub`, loses control characters and line breaks, and is
truncated. What a visitor typed is quoted, and can neither end its line nor open a tag of the prompt.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from streamer.models.fields import device_and_referrer
from streamer.schemas.click import Click, Session

Scrub = Callable[[str], str]
"""Takes personal numbers and addresses out of a text; scrubbing twice is scrubbing once."""

HEAD_LINES, TAIL_LINES = 10, 16
_MOST_CHARACTERS = 80
_MARKS = str.maketrans({"<": "‹", ">": "›", '"': "'", "`": "'"})


def rendering(session: Session, scrub: Scrub) -> str:
    """At most 1 + HEAD_LINES + TAIL_LINES + 1 lines."""
    lines = [_line(click, scrub) for click in session.clicks]
    kept = lines
    if len(lines) > HEAD_LINES + TAIL_LINES or session.event_count > len(lines):
        head, tail = lines[:HEAD_LINES], lines[HEAD_LINES:][-TAIL_LINES:]
        left_out = session.event_count - len(head) - len(tail)
        kept = [*head, f"({left_out} clicks left out)", *tail] if left_out > 0 else lines
    # Once more as a whole line: two harmless fields side by side may form a personal number.
    return "\n".join(scrub(line) for line in [_heading(session, scrub), *kept])


def _heading(session: Session, scrub: Scrub) -> str:
    device, referrer = device_and_referrer(session)
    came = f", from {plain(referrer, scrub)}" if referrer else ""
    minutes = round((session.ended_at - session.started_at) / 60_000)
    return f"{plain(device, scrub) or 'device unknown'}{came}, {session.event_count} clicks in {minutes} min"


def _line(click: Click, scrub: Scrub) -> str:
    where = [click.page_type, click.path, click.category, click.element and f"#{click.element}"]
    parts = [plain(part, scrub) for part in (click.event_type, *where) if part]
    if click.product_id:
        parts.append(f"product {plain(click.product_id, scrub)}")
    if click.search_query:
        parts.append(f'"{plain(click.search_query, scrub)}"')
    if click.dwell_ms is not None and click.dwell_ms > 0:
        parts.append(f"{round(click.dwell_ms / 1000)}s")
    return " ".join(parts)


def plain(text: str | None, scrub: Scrub) -> str:
    """On one line, scrubbed, cut, and without marks that mean something in a prompt."""
    if not text:
        return ""
    printable = "".join(
        " " if unicodedata.category(c)[0] in "CZ" else c for c in text[: 4 * _MOST_CHARACTERS]
    )
    return " ".join(scrub(printable).translate(_MARKS).split())[:_MOST_CHARACTERS]


def normalized(text: str) -> str:
    """Text as quotes are compared: models change case, spaces and quotation marks."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.translate(str.maketrans("“”‘’‹›'", '""""<>"')).split())


def quotes(quote: str, rendered: str) -> bool:
    """Whether the quote, of at least three characters, occurs in the rendering."""
    wanted = normalized(quote)
    return len(wanted) >= 3 and wanted in normalized(rendered)
