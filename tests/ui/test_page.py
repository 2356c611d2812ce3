"""The live page in a real browser, on a real broker, with sessions that a real worker has closed."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, BrowserContext, expect
from playwright.sync_api import Page as Tab

from streamer import sample
from streamer.kafka.ports import free_ports
from streamer.kafka.topics import create_topics, declared_topics
from streamer.models.bundle import default_bundle, load_bundle
from streamer.settings import Settings, load_settings
from streamer.ui.projection import Point, Projection
from tests.conftest import names_of_its_own
from tests.ui.live import (
    CHROMIUM,
    DESK,
    NO_BROWSER,
    PHONE,
    SCROLLS_ASIDE_PX,
    SOON_MS,
    Page,
    a_browser,
    serious_violations,
    showing,
)
from tests.worker.live import Worker, committed, send

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER),
    # Playwright's driver is ended without its pipes being closed first.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
TYPED = "zanzibar"
"""What a customer searched for."""
BAD_CLICK = b"{broken"
CLICKS = 400


class Published(NamedTuple):
    """What a worker has made of sample clicks."""

    settings: Settings
    searched: str
    """A session with a search in it."""
    visitor: str
    customer: str
    """The visitor is one of their browsers."""
    people: int
    """Closed sessions that are no bot's."""
    place: Point
    """Of one of them, on the map."""


class Seen(NamedTuple):
    page: Page
    browser: Browser


@pytest.fixture(scope="module")
def published(bootstrap: str) -> Published:
    """Made before there is a browser, whose driver keeps an event loop running."""
    settings = load_settings(
        overrides={"kafka.bootstrap_servers": bootstrap, **names_of_its_own()}, environ={}
    )
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    with gzip.open(sample.path(), "rt") as file:
        clicks = [json.loads(line) for line, _ in zip(file, range(CLICKS), strict=False)]
    searched = next(click for click in clicks if click.get("search_query"))
    searched["search_query"] = TYPED
    messages = [(click["visitor_id"].encode(), json.dumps(click).encode()) for click in clicks]
    send(settings, [*messages, (b"v", BAD_CLICK)])
    worker = Worker(settings, "--drain")
    assert worker.end() == 0, worker.log
    sessions = committed(settings, settings.topics.intents).decoded()
    session = next(each for each in sessions if each["visitor_id"] == searched["visitor_id"])
    people = len({each["session_id"] for each in sessions if each["is_final"] and not each["is_bot"]})
    prototypes = load_bundle(default_bundle()).prototypes
    assert prototypes is not None
    visitors = committed(settings, settings.topics.visitors).decoded()
    (person, *_) = (each for each in visitors if each["is_final"] and not each["is_bot"])
    place = Projection.of(prototypes).place(person["embedding"])
    customer = committed(settings, settings.topics.users).decoded()[-1]
    return Published(
        settings, session["session_id"], customer["visitor_id"], customer["user_id"], people, place
    )


@pytest.fixture(scope="module")
def browser(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with a_browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture(scope="module")
def seen(published: Published, browser: Browser) -> Iterator[Seen]:
    with showing(published.settings) as page:
        yield Seen(page, browser)


@pytest.fixture(scope="module")
def context(seen: Seen) -> Iterator[BrowserContext]:
    """For all tests: what one of them has loaded the next has."""
    with seen.browser.new_context(viewport=DESK, color_scheme="light") as context:
        context.set_default_timeout(SOON_MS)
        yield context


@pytest.fixture
def tab(context: BrowserContext) -> Iterator[Tab]:
    with context.new_page() as tab:
        yield tab


def show(tab: Tab, seen: Seen, path: str = "/") -> None:
    tab.goto(f"{seen.page.address}{path}?{seen.page.link.partition('?')[2]}")


def test_the_page_shows_the_stream_and_asks_nobody_else(seen: Seen, tab: Tab) -> None:
    asked: set[str] = set()
    told: list[str] = []
    tab.on("request", lambda request: asked.add(request.url))
    tab.on("console", lambda message: told.append(message.text))
    show(tab, seen)
    expect(tab.locator("tbody tr").first).to_be_visible()
    health = tab.get_by_role("region", name="Health of the stream")
    expect(health).to_contain_text(f"sessions of {CLICKS} clicks")
    expect(health).to_contain_text("invalid_json 1")
    expect(tab.locator("[role=status]").first).to_have_text("")
    assert "token" not in tab.url
    assert all(url.startswith((seen.page.address, seen.page.address.replace("http", "ws"))) for url in asked)
    assert told == []


def test_a_filter_leaves_only_what_it_names(seen: Seen, tab: Tab) -> None:
    show(tab, seen)
    labels = tab.locator("table").first.locator("tbody tr td:nth-child(2)")
    expect(labels.first).to_be_visible()
    tab.get_by_label("Intent").first.click()
    tab.get_by_role("option", name="No label").click()
    expect(labels.filter(has_not_text="no label")).to_have_count(0)
    expect(labels.first).to_contain_text("no label")


def test_a_session_is_explained_and_what_was_typed_is_not_shown(
    published: Published, seen: Seen, tab: Tab
) -> None:
    show(tab, seen, f"/sessions/{published.searched}")
    tab.get_by_role("button", name="Explain this session").click()
    expect(tab.get_by_text("to the log odds of")).to_be_visible()
    expect(tab.get_by_role("cell", name="(a search)").first).to_be_visible()
    assert TYPED not in tab.content()


def test_a_session_that_the_page_does_not_hold_is_told(seen: Seen, tab: Tab) -> None:
    show(tab, seen, "/sessions/unknown")
    expect(tab.get_by_role("heading", level=1)).to_have_text("Not here")
    expect(tab.get_by_text("holds no session unknown")).to_be_visible()


def test_the_map_has_every_session_that_is_listed(published: Published, seen: Seen, tab: Tab) -> None:
    show(tab, seen, "/map")
    expect(tab.get_by_role("img", name="Map of session embeddings")).to_be_visible()
    expect(tab.get_by_text(f"{published.people} sessions")).to_be_visible()


def test_a_click_on_a_point_of_the_map_opens_a_session(published: Published, seen: Seen, tab: Tab) -> None:
    show(tab, seen, "/map")
    expect(tab.get_by_text(f"{published.people} sessions")).to_be_visible()
    box = tab.get_by_role("img", name="Map of session embeddings").bounding_box()
    assert box is not None
    x, y = published.place
    # Within the margins of the chart both axes go from -1 to 1.
    tab.mouse.click(
        box["x"] + 8 + (box["width"] - 16) * (x + 1) / 2, box["y"] + 8 + (box["height"] - 48) * (1 - y) / 2
    )
    expect(tab.get_by_role("heading", level=1)).to_have_text("A session")


def test_the_tree_of_intents_leads_to_examples(seen: Seen, tab: Tab) -> None:
    show(tab, seen, "/intents")
    expect(tab.get_by_text("too few to judge drift by")).to_be_visible()
    tab.locator("details details summary").filter(has_not_text="0% · 0").first.press("Enter")
    tab.get_by_role("link", name="sure").first.press("Enter")
    expect(tab.get_by_role("heading", level=1)).to_have_text("A session")


def test_keys_suffice_to_find_a_visitor_and_their_customer(
    published: Published, seen: Seen, tab: Tab
) -> None:
    show(tab, seen)
    tab.get_by_label("Visitor, customer or session").focus()
    tab.keyboard.type(published.visitor)
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("heading", level=1)).to_have_text("A visitor's sessions")
    link = tab.get_by_role("link", name=published.customer).first
    for _ in range(30):
        if link.evaluate("each => each === document.activeElement"):
            break
        tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("heading", level=1)).to_have_text("A customer's sessions")
    expect(tab.get_by_text(f"Customer {published.customer}: ")).to_be_visible()


@pytest.mark.parametrize(
    ("scheme", "path"), [("light", "/"), ("dark", "/"), ("light", "/intents"), ("light", "/sessions/{}")]
)
def test_axe_finds_nothing_serious(
    published: Published, seen: Seen, tab: Tab, scheme: Any, path: str
) -> None:
    tab.emulate_media(color_scheme=scheme)
    show(tab, seen, path.format(published.searched))
    expect(tab.locator("tbody tr, summary").first).to_be_visible()
    assert serious_violations(tab) == {}


def test_a_phone_scrolls_downwards_only(seen: Seen, tab: Tab) -> None:
    tab.set_viewport_size(PHONE)
    show(tab, seen)
    expect(tab.locator("tbody tr").first).to_be_visible()
    assert tab.evaluate(SCROLLS_ASIDE_PX) <= 0


def test_who_has_no_token_is_told_where_it_is(seen: Seen) -> None:
    with seen.browser.new_context(viewport=DESK) as context:
        context.set_default_timeout(SOON_MS)
        tab = context.new_page()
        answer = tab.goto(f"{seen.page.address}/?token=wrong")
        assert answer is not None
        assert answer.status == 403
        expect(tab.get_by_role("heading", level=1)).to_have_text("This is not the token")
        token = seen.page.link.partition("token=")[2]
        tab.get_by_label("Token").fill(token)
        tab.keyboard.press("Enter")
        expect(tab.get_by_role("heading", level=1)).to_have_text("What visitors want right now")


def test_brokers_that_are_away_and_a_page_that_is_away_are_told(browser: Browser) -> None:
    (nobody,) = free_ports(1)
    settings = load_settings(
        overrides={"kafka.bootstrap_servers": f"127.0.0.1:{nobody}", "kafka.connect_timeout_s": 1}, environ={}
    )
    page = Page(settings)
    with browser.new_context(viewport=DESK) as context:
        context.set_default_timeout(SOON_MS)
        tab = context.new_page()
        tab.goto(page.link)
        expect(tab.get_by_role("status").first).to_contain_text(f"127.0.0.1:{nobody}")
        expect(tab.get_by_text("No session has closed yet")).to_be_visible()
        page.signal(signal.SIGTERM)
        assert page.end() == 0, page.log
        expect(tab.get_by_text("Connection lost")).to_be_visible()
