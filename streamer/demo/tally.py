"""What the demo has seen so far. Plain data: the view draws it, the summary prints it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streamer.pipeline.counters import ClickCounters

RECENT = 14


@dataclass
class Tally:
    """`recent` are the latest session intents, newest first; `intents` counts labels of top intents."""

    clicks_sent: int = 0
    clicks_total: int = 0
    sessions: int = 0
    bots: int = 0
    intents: Counter[str] = field(default_factory=Counter)
    abstained: Counter[str] = field(default_factory=Counter)
    recent: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=RECENT))
    counters: ClickCounters | None = None
    """Where every click ended; known at the end."""
    model_version: str = ""

    def see(self, record: Mapping[str, Any]) -> None:
        """Count one decoded session intent."""
        self.sessions += 1
        self.bots += record["is_bot"]
        self.model_version = record["model_version"]
        if record["abstained"]:
            self.abstained[record["abstain_reason"]] += 1
        else:
            self.intents[label_of(record)] += 1
        self.recent.appendleft(record)

    def as_json(self) -> dict[str, Any]:
        """The summary for `--json`."""
        counters = self.counters or ClickCounters()
        return {
            "clicks_sent": self.clicks_sent,
            "sessions": self.sessions,
            "bots": self.bots,
            "intents": dict(self.intents.most_common()),
            "abstained": dict(self.abstained.most_common()),
            "accounts": {name: getattr(counters, name) for name in counters.__struct_fields__},
            "open": counters.open(),
            "model_version": self.model_version,
        }


def label_of(record: Mapping[str, Any]) -> str:
    """The label of a record's top intent; empty where the model abstained."""
    return next(
        (intent["label"] for intent in record["intents"] if intent["intent_id"] == record["top_intent"]), ""
    )
