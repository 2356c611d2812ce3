"""Visitors' ties in more partitions than before: records of customers are what they would have been."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.identity.attribution import AttributionStage
from streamer.identity.links import Link
from streamer.identity.moving import Share, moved
from streamer.identity.users import UserStage
from streamer.kafka.partitions import PLACINGS, placing_of
from streamer.schemas import codec
from tests.identity.oracle import DAY
from tests.identity.stages import comparable, session
from tests.identity.test_against_oracle import RULES, START, USERS

VISITORS = [f"v{number}" for number in range(8)]
EVENTS = 40


def some_events(chance: Random) -> list[Any]:
    """Sessions, most of them anonymous, and links."""
    return [
        (chance.choice(VISITORS), chance.choice((None, None, *USERS)))
        if chance.random() < 0.7
        else (chance.choice(VISITORS), chance.choice(USERS), chance.random() < 0.7)
        for _ in range(EVENTS)
    ]


class Partitioned:
    """The attribution stage in several partitions, and customers' records in one."""

    def __init__(self, partitions: int, placing: Any) -> None:
        self._stages = [AttributionStage(RULES) for _ in range(partitions)]
        self._states: list[dict[str, bytes]] = [{} for _ in range(partitions)]
        self._users, self._placing = UserStage(RULES), placing
        self.latest: dict[str, Any] = {}

    def take_in(self, number: int, event: Any) -> None:
        at = START + number * DAY // 4
        if len(event) == 3:
            for stage in self._stages:
                stage.link(Link(event[0], event[1], event[2], 1.0), at)
        else:
            place = self._placing(event[0].encode(), len(self._stages))
            message = codec.encode("visitor_intent", session(number, event[0], at, event[1]))
            self._stages[place].links_read_until(at)
            self._stages[place].session(message)
        for stage, states in zip(self._stages, self._states, strict=True):
            taken = stage.take()
            for visitor, state in taken.states.items():
                states.pop(visitor, None)
                if state is not None:
                    states[visitor] = state
            for user, change in taken.changes:
                self._users.apply(user, change)
        for user, record in self._users.take().records:
            self.latest[user] = None if record is None else codec.decode(record)[1]

    def grow(self, partitions: int) -> None:
        before = {
            number: Share(stage.progress, dict(states))
            for number, (stage, states) in enumerate(zip(self._stages, self._states, strict=True))
        }
        counted = self.counted()
        after = moved(before, self._placing, partitions)
        self._stages = [AttributionStage(RULES, after[number].progress) for number in range(partitions)]
        self._states = [dict(after[number].states) for number in range(partitions)]
        for stage, states in zip(self._stages, self._states, strict=True):
            for visitor, state in states.items():
                stage.restore(visitor, state)
        assert self.counted() == counted

    def counted(self) -> dict[str, int]:
        """Sessions by what became of them."""
        counts = [stage.progress.counts for stage in self._stages]
        return {name: sum(getattr(each, name) for each in counts) for name in counts[0].__struct_fields__}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False), st.sampled_from(sorted(PLACINGS)))
def test_records_are_the_same_whenever_partitions_are_added(chance: Random, placing: str) -> None:
    drawn, grown_at = some_events(chance), chance.randrange(EVENTS)
    before, after = chance.randint(1, 4), chance.randint(5, 9)
    one, several = Partitioned(1, PLACINGS[placing]), Partitioned(before, PLACINGS[placing])
    for number, event in enumerate(drawn):
        if number == grown_at:
            several.grow(after)
        one.take_in(number, event)
        several.take_in(number, event)
    assert comparable_of(several) == comparable_of(one)
    assert several.counted() == one.counted()


def comparable_of(stages: Partitioned) -> dict[str, Any]:
    return comparable({user: record for user, record in stages.latest.items() if record is not None})


def test_how_producers_choose_partitions_shows_in_their_keys() -> None:
    chance = Random(1)
    keys = [f"visitor-{chance.random()}".encode() for _ in range(50)]
    for placing in PLACINGS.values():
        assert placing_of(((key, placing(key, 7)) for key in keys), 7) is placing
    assert placing_of(((key, len(key) % 7) for key in keys), 7) is None
    assert placing_of([], 7) is PLACINGS["murmur2"]
