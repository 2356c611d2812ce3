"""More partitions: the state of the attribution stage moves to where the visitors' next sessions come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import NamedTuple

import msgspec

from streamer.identity.attribution import Progress, SessionCounts
from streamer.identity.packed import PackedSession, SessionMessage, Texts
from streamer.identity.ties import VisitorTies


class Share(NamedTuple):
    """The attribution state of one partition: what its marker knows, and the states of visitors."""

    progress: Progress
    states: dict[str, bytes]


def moved(
    shares: Mapping[int, Share], placing: Callable[[bytes, int], int], partitions: int
) -> dict[int, Share]:
    """The state with so many partitions, from 0 on. Everything that was written before has to be read.

    `placing`: partition of a key, by the number of partitions.

    A visitor's state moves from their old partition to the new one. What the other partitions know of them,
    from their copies of the links, stays where it is, and gives way where the visitor comes to. A new
    partition has read nothing yet, and knows of erasures what any other does.
    """
    new = {number: Share(deepcopy(share.progress), dict(share.states)) for number, share in shares.items()}
    new |= {number: Share(_of_new(shares), {}) for number in range(len(shares), partitions)}
    texts = {number: Texts(share.progress.texts) for number, share in new.items()}
    for number, share in shares.items():
        for visitor_id, state in share.states.items():
            key = visitor_id.encode()
            target = placing(key, partitions)
            if placing(key, len(shares)) != number or target == number:
                continue
            del new[number].states[visitor_id]
            ties = msgspec.msgpack.decode(state, type=VisitorTies)
            for each in ties.waiting:
                message = PackedSession(each.session).message(texts[number])
                each.session = SessionMessage(message).packed(texts[target])
                new[number].progress.counts.waiting(each.answer, -1)
                new[target].progress.counts.waiting(each.answer, 1)
            new[target].states[visitor_id] = msgspec.msgpack.encode(ties)
    return new


def _of_new(shares: Mapping[int, Share]) -> Progress:
    known = [share.progress for share in shares.values()]
    return Progress(
        sessions_read=min(each.sessions_read for each in known),
        links_read=min(each.links_read for each in known),
        erased_visitors=_latest(each.erased_visitors for each in known),
        erased_users=_latest(each.erased_users for each in known),
        counts=SessionCounts(),
        texts=[],
    )


def _latest(erased: Iterable[Mapping[str, int]]) -> dict[str, int]:
    latest: dict[str, int] = {}
    for each in erased:
        for name, until in each.items():
            latest[name] = max(until, latest.get(name, until))
    return latest
