"""The simulator's settings: one frozen dataclass, validated when it is made."""

from __future__ import annotations

from dataclasses import asdict, dataclass

_SHARES = (
    "second_intent_rate",
    "never_login_share",
    "login_rate",
    "no_consent_share",
    "search_rate",
    "misspelling_rate",
    "page_noise",
    "bot_share",
    "fast_bot_share",
    "concept_shift",
    "drift",
    "drift_from",
    "app_share",
    "app_return_rate",
    "exploration",
    "missing_link_rate",
    "wrong_link_rate",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """Shares and rates are within 0..1. The defaults give about 50,000 sessions over 60 days."""

    seed: int = 0
    visitors: int = 17_000
    """People; bots come on top."""
    sessions_per_visitor: float = 3.0
    """Mean of a geometric distribution, at least 1."""
    clicks_per_session: float = 8.0
    """Mean of a geometric distribution before the cut at `max_clicks`: the median is 5 to 6."""
    max_clicks: int = 40
    start_ms: int = 1_709_510_400_000
    """Midnight UTC of Monday, 4 March 2024."""
    period_days: float = 60.0
    """Below one day there is no rhythm of day and night."""
    interest_days: float = 0.0
    """Mean time for which a person's interests last before others replace them; 0: they last for good."""

    second_intent_rate: float = 0.2
    """Sessions of people with two intents."""
    never_login_share: float = 0.55
    """Visitors who never log in on the web."""
    login_rate: float = 0.6
    """Sessions in which the other visitors do log in."""
    no_consent_share: float = 0.01
    """Visitors whose clicks say `consent: false`."""
    search_rate: float = 0.1
    """Clicks that are a search on the site."""
    misspelling_rate: float = 0.15
    """Searches with a typing error."""
    page_noise: float = 0.1
    """Clicks on a page of any intent whatsoever."""
    bot_share: float = 0.02
    """Sessions of bots among all sessions."""
    fast_bot_share: float = 0.2
    """Bots that look like a browser but make over a hundred clicks within a hundred seconds."""

    concept_shift: float = 0.3
    """How far never-login visitors differ: other intents, other pages, weaker reaction to an intent."""
    drift: float = 0.3
    """Sessions brought by a campaign, once that campaign runs."""
    drift_from: float = 0.75
    """Share of the period after which the campaigns start."""

    app_share: float = 0.7
    """Visitors who use the app."""
    app_return_rate: float = 0.6
    """Web sessions that are followed by a visit of the app."""
    signal_strength: float = 1.0
    """How strongly a session's intents cause clicks and conversions in the app: 0 not at all."""
    tiles_shown: int = 8
    exploration: float = 0.1
    """Probability that a slot of the app's home screen is filled uniformly at random."""
    missing_link_rate: float = 0.1
    """App users whose web visits aren't known to be theirs."""
    wrong_link_rate: float = 0.03
    """App users who are linked to somebody else's web visits."""

    def __post_init__(self) -> None:
        for name in _SHARES:
            _expect(name, getattr(self, name), 0.0, 1.0)
        _expect("seed", self.seed, 0, 2**63 - 1)
        _expect("visitors", self.visitors, 2, 10_000_000)
        _expect("sessions_per_visitor", self.sessions_per_visitor, 1.0, 30.0)
        _expect("clicks_per_session", self.clicks_per_session, 1.0, 200.0)
        _expect("max_clicks", self.max_clicks, 1, 2_000)
        _expect("start_ms", self.start_ms, 0, 4_102_444_800_000)
        _expect("period_days", self.period_days, 0.01, 3_650.0)
        _expect("interest_days", self.interest_days, 0.0, 3_650.0)
        _expect("signal_strength", self.signal_strength, 0.0, 10.0)
        _expect("tiles_shown", self.tiles_shown, 2, 20)
        _expect(
            "missing_link_rate + wrong_link_rate", self.missing_link_rate + self.wrong_link_rate, 0.0, 1.0
        )
        _expect("bot_share", self.bot_share, 0.0, 0.9)

    def as_dict(self) -> dict[str, int | float]:
        return asdict(self)


def _expect(name: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise ValueError(f"simulator: {name} = {value}, expected {lowest} to {highest}")
