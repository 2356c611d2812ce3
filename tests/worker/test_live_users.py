"""What one partition of the users stage publishes; plain values, no broker."""

from __future__ import annotations

from types import SimpleNamespace

from schemas import codec
from streamer.identity import changes
from streamer.identity.changes import LOGIN, Attributed
from streamer.identity.rules import IdentityRules
from streamer.kafka.partitions import hash_of
from streamer.settings import Settings
from streamer.worker.stages.identity import LiveUsers
from tests.identity.stages import session

PARTITIONS = 4
CLOSED_AT = 1_795_000_000_000


def test_of_an_erased_customer_the_partition_that_has_their_record_says_that_it_is_gone() -> None:
    """Another's tombstone would outlive the record of a customer who comes back."""
    home = hash_of(b"u") % PARTITIONS
    live = [LiveUsers(number, PARTITIONS, Settings(), IdentityRules(), None) for number in range(PARTITIONS)]
    message = codec.encode("visitor_intent", session(1, "v", CLOSED_AT, "u"))
    attributed = changes.encode(Attributed("v", message, LOGIN, 1.0))
    live[home].process(SimpleNamespace(key=b"u", value=attributed, offset=0))
    assert len(live[home].take().records) == 1
    erasure = {"visitor_id": "", "user_id": "u", "requested_at": CLOSED_AT}
    record = SimpleNamespace(value=codec.encode("erasure", erasure), offset=0, timestamp=CLOSED_AT + 1)
    for stage in live:
        stage.take_in(Settings().topics.erasures, [record], 0)
    taken = [stage.take() for stage in live]
    assert [[output.message[:2] for output in each.records] for each in taken] == [
        [(b"u", None)] if number == home else [] for number in range(PARTITIONS)
    ]
    assert sum(each.events["user_removed"] for each in taken) == 1
