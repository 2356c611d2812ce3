"""Parts that several pages draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from nicegui import ui

FAINT_COLOUR = "#8a8f98"
GRID_COLOUR = "rgba(138, 143, 152, 0.25)"
"""Of lines and backgrounds, in the light and in the dark."""
_LINK = """
<q-td :props="props" class="{css}">
  <a v-if="props.row.{field}_link" class="link" :href="props.row.{field}_link">{{{{ props.value }}}}</a>
  <span v-else>{{{{ props.value }}}}</span>
</q-td>
"""


def button(text: str, on_click: Callable[..., Any], *, is_flat: bool = False) -> ui.button:
    """With a frame; or flat, as a link has it."""
    drawn = ui.button(text, on_click=on_click).props("flat dense no-caps" if is_flat else "outline no-caps")
    return drawn.style("color: var(--link) !important")


def table(
    columns: dict[str, str], key: str, *, links: tuple[str, ...] = (), wide: tuple[str, ...] = ()
) -> ui.table:
    """`columns`: heading by field; the fields of `links` lead to what `FIELD_link` of a row says; phones
    leave the `wide` ones out."""
    drawn = ui.table(
        columns=[
            {
                "name": field,
                "label": heading,
                "field": field,
                "align": "left",
                "classes": "wide" if field in wide else "",
                "headerClasses": "wide" if field in wide else "",
            }
            for field, heading in columns.items()
        ],
        rows=[],
        row_key=key,
        pagination=0,
    )
    drawn.props("flat dense hide-pagination hide-no-data").classes("w-full")
    for field in links:
        css = "wide" if field in wide else ""
        drawn.add_slot(f"body-cell-{field}", _LINK.format(field=field, css=css))
    return drawn


def session_link(session_id: str) -> str:
    return f"/sessions/{quote(session_id, safe='')}"


def short(text: str) -> str:
    """Ids may have 256 bytes."""
    return text if len(text) <= 20 else f"{text[:19]}…"
