"""What all pages have: a header with links, light and dark, a line on how it stands with the brokers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from nicegui import ui

from streamer.ui.feed import Feed
from streamer.ui.widgets import FAINT_COLOUR, GRID_COLOUR, button
from streamer.ui.wording import news_of

DARK_COOKIE = "streamer_ui_dark"
PAGES = {"/": "Live", "/map": "Map", "/intents": "Intents"}
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#7a5195")
"""Told apart by colour-blind people too (Okabe, Ito 2008)."""
_STYLE = """
:root { --page: #f6f7f9; --card: #ffffff; --text: #16191d; --faint: #565c66; --line: #d9dce1; --link: #0b5cad;
  --good: #1b6e3c; --bad: #b3261e; --warn-back: #fff4d6; --warn-text: #5c4300 }
body.body--dark { --page: #14171b; --card: #1d2126; --text: #e8eaed; --faint: #a9b0ba; --line: #363c45;
  --link: #8ab8f0; --good: #7fd6a0; --bad: #ff9c94; --warn-back: #4a3a10; --warn-text: #ffe6a8 }
body { background: var(--page); color: var(--text); font-size: 0.95rem }
a.link { color: var(--link); text-decoration: underline; text-underline-offset: 2px }
a.link:focus-visible, button:focus-visible { outline: 2px solid var(--link); outline-offset: 2px }
.nicegui-content { padding: 0.75rem; gap: 0.75rem }
header.q-header { background: var(--card); color: var(--text); border-bottom: 1px solid var(--line) }
h1 { font-size: 1.25rem; line-height: 1.4; font-weight: 600; margin: 0 }
h2, h3 { font-size: 1rem; line-height: 1.4; font-weight: 600; margin: 0 }
.panel { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 0.75rem;
  gap: 0.5rem; min-width: 0 }
.faint { color: var(--faint); font-size: 0.85rem }
.figure { font-size: 1.2rem; font-variant-numeric: tabular-nums }
.notice { background: var(--warn-back); color: var(--warn-text); border-radius: 6px; padding: 0.5rem 0.75rem }
.bad { color: var(--bad) }
.good { color: var(--good) }
.q-table__card { background: transparent; color: inherit; box-shadow: none }
.q-table th { color: var(--faint); font-weight: 600 }
.q-table td, .q-table th { padding: 4px 8px; white-space: nowrap }
.q-table td.wrap { white-space: normal }
.q-field__native, .q-field__label, .q-checkbox__label { color: var(--text) }
summary { list-style: none }
summary::before { content: "\\25B8"; display: inline-block; width: 1.1em }
details[open] > summary::before { content: "\\25BE" }
summary:focus-visible { outline: 2px solid var(--link); outline-offset: 2px }
.bar { height: 0.6rem; border-radius: 2px; min-width: 1px }
.numbers { font-variant-numeric: tabular-nums }
@media (max-width: 640px) { .q-table .wide { display: none } }
"""


def colour_of(outcome: str, known: list[str]) -> str:
    """`known`: all outcomes that have a colour of their own, in an order that stays."""
    return _COLOURS[known.index(outcome) % len(_COLOURS)] if outcome in known else FAINT_COLOUR


@contextmanager
def frame(title: str, feed: Feed, current: str | None = None) -> Iterator[ui.column]:
    """The page around what is drawn inside. `current`: which of PAGES it is."""
    with bare_frame(title, lambda: news_of(feed.connection), PAGES, current) as column:
        yield column


@contextmanager
def bare_frame(
    title: str, news: Callable[[], str], pages: Mapping[str, str] | None = None, current: str | None = None
) -> Iterator[ui.column]:
    """The same for any page. `news` is asked every second, and shown unless it is empty; `pages`: paths and
    names of all that the header leads to."""
    ui.page_title(f"{title} · clicks to intent")
    ui.add_css(f"{_STYLE}.chosen {{ background: {GRID_COLOUR} }}")
    dark = ui.dark_mode(_wanted_dark())
    with ui.header().classes("items-center gap-4 px-3 py-2"):
        ui.label("clicks to intent").classes("font-semibold max-sm:hidden" if pages else "font-semibold")
        if pages:
            _draw_links(pages, current)
        ui.space()
        ui.label("Times in UTC").classes("faint")
        button("Dark / light", lambda: _turn(dark), is_flat=True)
    with ui.column().classes("w-full gap-3 p-0") as column:
        told = ui.label().props('role="status"')

        def tell() -> None:
            text = news()
            told.text = text
            told.classes(replace="notice w-full" if text else "")

        tell()
        ui.timer(1.0, tell)
        yield column


def _draw_links(pages: Mapping[str, str], current: str | None) -> None:
    with ui.element("nav").props('aria-label="Pages"').classes("flex gap-4"):
        for path, name in pages.items():
            link = ui.link(name, path).classes("link")
            if path == current:
                link.props('aria-current="page"').classes("font-semibold")


def _wanted_dark() -> bool | None:
    """As the reader chose it last; None: as their system has it."""
    request = ui.context.client.request
    return {"1": True, "0": False}.get(request.cookies.get(DARK_COOKIE, "")) if request else None


async def _turn(dark: ui.dark_mode) -> None:
    is_dark = await ui.run_javascript("document.body.classList.contains('body--dark')")
    dark.set_value(not is_dark)
    ui.run_javascript(
        f"document.cookie = '{DARK_COOKIE}={int(not is_dark)}; path=/; SameSite=Lax; max-age=31536000'"
    )
