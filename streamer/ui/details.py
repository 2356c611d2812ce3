"""The pages of one session, one visitor and one customer."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from nicegui import ui

from streamer.client.table import PastSession
from streamer.ui.state import NO_LABEL, Customer, PageState, Session
from streamer.ui.why import Explainer, NotExplainedError, Why
from streamer.ui.widgets import button, session_link, short, table
from streamer.ui.wording import clock, date_and_clock, duration, name_of, percent, reasons_of, verdict, words

_SIGNED_BAR = """
<q-td :props="props" style="width: 30%">
  <div class="flex no-wrap"><div style="width: 50%"><div v-if="props.row.weight < 0" class="bar"
    :style="{ width: props.row.width, background: '#D55E00', marginLeft: 'auto' }"></div></div>
  <div style="width: 50%"><div v-if="props.row.weight > 0" class="bar"
    :style="{ width: props.row.width, background: '#0072B2' }"></div></div></div>
</q-td>
"""


def draw_session(state: PageState, explainer: Explainer, session_id: str) -> None:
    session = state.find_session(session_id)
    if session is None:
        draw_unknown("session", session_id)
        return
    lasted_ms = session.ended_at - session.started_at
    ui.html("<h1>A session</h1>", sanitize=False)
    with ui.column().classes("panel w-full max-w-5xl"):
        _facts(
            {
                "Label": verdict(session),
                "Clicks": str(session.event_count),
                "From": f"{date_and_clock(session.started_at)}, {duration(lasted_ms)}",
                "Closed": f"{date_and_clock(session.closed_at)} ({words(session.close_reason)})",
                "Model": session.model_version,
                "Session": session.session_id,
            }
        )
        with ui.row().classes("gap-4"):
            ui.link(
                f"Visitor {short(session.visitor_id)}", f"/visitors/{quote(session.visitor_id, safe='')}"
            ).classes("link")
            if session.user_id:
                ui.link(
                    f"Customer {short(session.user_id)}", f"/customers/{quote(session.user_id, safe='')}"
                ).classes("link")
    with ui.column().classes("panel w-full max-w-5xl"):
        ui.html("<h2>How likely each intent is</h2>", sanitize=False)
        likely = table({"intent": "Intent", "probability": "Probability"}, "intent")
        likely.rows = [{"intent": e.label, "probability": percent(e.probability)} for e in session.intents]
    with ui.column().classes("panel w-full max-w-5xl") as panel:
        ui.html("<h2>Why</h2>", sanitize=False)
        ui.label(
            "Each click is left out in turn: what the label's log odds lose without it is its weight."
        ).classes("faint")
        if session.reasons:
            ui.label(f"Its record names the strongest: {reasons_of(session)}")

        async def ask() -> None:
            explain.disable()
            waiting.text = "Reading the session's clicks and leaving each out …"
            try:
                why = await explainer.why(session, state.drains_ms(session.partition))
            except NotExplainedError as error:
                waiting.text = f"This can't be explained: {error}"
                explain.enable()
                return
            waiting.text = ""
            explain.visible = False
            with panel:
                _draw_why(why)

        explain = button("Explain this session", ask)
        waiting = ui.label().props('role="status"')


def _draw_why(why: Why) -> None:
    ui.label(
        f"What each click adds to the log odds of {why.intent} ({percent(why.probability)}, "
        f"{why.log_odds:+.2f}). The strongest are marked *."
    )
    clicks = table(
        {"number": "", "at": "At", "what": "Click", "adds": "Adds", "bar": ""}, "number", wide=("at",)
    )
    clicks.add_slot("body-cell-bar", _SIGNED_BAR)
    clicks.add_slot("body-cell-what", '<q-td :props="props" class="wrap">{{ props.value }}</q-td>')
    largest = max((abs(each.contribution or 0) for each in why.clicks), default=1) or 1
    clicks.rows = [
        {
            "number": f"{number}{' *' if each.is_strong else ''}",
            "at": clock(each.at),
            "what": each.words,
            "adds": "" if each.contribution is None else f"{each.contribution:+.2f}",
            "weight": each.contribution or 0,
            "width": f"{100 * abs(each.contribution or 0) / largest:.1f}%",
        }
        for number, each in enumerate(why.clicks, 1)
    ]
    ui.label(why.change or "Leaving clicks out, as far as tried, doesn't change the label.")
    ui.html("<h2>What each field adds, over all clicks</h2>", sanitize=False)
    fields = table({"field": "Field", "adds": "Adds"}, "field")
    fields.rows = [{"field": name, "adds": f"{adds:+.2f}"} for name, adds in why.fields]


def draw_visitor(state: PageState, visitor_id: str) -> None:
    """The sessions of a browser that the page holds, newest first, and whose they are."""
    sessions = state.sessions_of(visitor_id)
    if not sessions:
        draw_unknown("visitor", visitor_id)
        return
    ui.html("<h1>A visitor's sessions</h1>", sanitize=False)
    ui.label(f"Visitor {visitor_id}: those of the newest sessions that this page holds.").classes("faint")
    whose = state.customers_of(each.session_id for each in sessions)
    with ui.column().classes("panel w-full max-w-5xl"):
        columns = {"closed": "Closed", "intent": "Intent", "probability": "Probability", "clicks": "Clicks"}
        columns |= {"customer": "Customer", "whose": "Attribution"}
        timeline = table(columns, "id", links=("intent", "customer"), wide=("clicks",))
        timeline.rows = [_visitor_row(each, whose.get(each.session_id)) for each in sessions]


def _visitor_row(session: Session, owner: tuple[Customer, PastSession] | None) -> dict[str, Any]:
    customer = session.user_id if owner is None else owner[0].user_id
    return {
        "id": session.session_id,
        "closed": date_and_clock(session.closed_at),
        "intent": verdict(session),
        "intent_link": session_link(session.session_id),
        "probability": percent(session.label.probability) if session.label else "",
        "clicks": session.event_count,
        "customer": short(customer or "nobody"),
        "customer_link": f"/customers/{quote(customer, safe='')}" if customer else None,
        "whose": "" if owner is None else f"{owner[1].attribution}, {percent(owner[1].confidence)}",
    }


def draw_customer(state: PageState, user_id: str) -> None:
    """The newest record of a customer: their sessions on all browsers, and what they add up to."""
    customer = state.find_customer(user_id)
    if customer is None:
        draw_unknown("customer", user_id)
        return
    ui.html("<h1>A customer's sessions</h1>", sanitize=False)
    browsers = "1 browser" if customer.visitors == 1 else f"{customer.visitors} browsers"
    sessions = "1 session" if customer.sessions == 1 else f"{customer.sessions} sessions"
    older = "" if customer.sessions <= len(customer.history) else f", the newest {len(customer.history)}"
    ui.label(f"Customer {user_id}: {sessions} on {browsers}{older}.").classes("faint")
    with ui.column().classes("panel w-full max-w-5xl"):
        columns = {"closed": "Closed", "intent": "Intent", "probability": "Probability"}
        columns |= {"attribution": "Attribution", "confidence": "Confidence"}
        timeline = table(columns, "id", links=("intent",))
        timeline.rows = [
            {
                "id": each.session_id,
                "closed": date_and_clock(each.closed_at),
                "intent": name_of(each.top_intent or NO_LABEL, state.labels),
                "intent_link": session_link(each.session_id) if state.find_session(each.session_id) else None,
                "probability": "" if each.probability is None else percent(each.probability),
                "attribution": each.attribution,
                "confidence": percent(each.confidence),
            }
            for each in customer.history
        ]
    with ui.column().classes("panel w-full max-w-5xl"):
        ui.html("<h2>Profile</h2>", sanitize=False)
        ui.label("Mean probability of each intent, newer and surer sessions counting more.").classes("faint")
        profile = table({"intent": "Intent", "probability": "Probability"}, "intent")
        profile.rows = [
            {"intent": e.label, "probability": percent(e.probability)} for e in customer.profile[:8]
        ]


def draw_unknown(what: str, key: str) -> None:
    ui.html("<h1>Not here</h1>", sanitize=False)
    ways = {
        "session": "streamer explain SESSION_ID finds any session that the topics still have.",
        "visitor": "streamer serve answers for every visitor.",
        "customer": "streamer serve answers for every customer.",
        "visitor, customer or session": "streamer serve and streamer explain know older ones.",
    }
    ui.label(
        f"This page holds no {what} {short(key)}: it knows the newest only, and forgets who was erased. "
        f"{ways[what]}"
    )
    ui.link("To the live page", "/").classes("link")


def _facts(facts: dict[str, str]) -> None:
    with ui.element("dl").classes("grid grid-cols-1 sm:grid-cols-2 lg:grid-cols-3 gap-3 m-0"):
        for name, value in facts.items():
            with ui.element("div"):
                with ui.element("dt").classes("faint"):
                    ui.label(name)
                with ui.element("dd").classes("m-0 break-all"):
                    ui.label(value)
