"""Exit code 0 is earned: a broker that dies or freezes in the middle of a command's work makes it 1."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest
from aiokafka.errors import KafkaError

from streamer.errors import StreamerError
from streamer.kafka.embedded import EmbeddedKafka
from streamer.kafka.erase import erase
from streamer.kafka.everywhere import NotTakenError
from streamer.kafka.produce import Produced, ProduceError, produce
from streamer.kafka.snapshot import snapshot
from streamer.kafka.subscribe import SubscribeError, records
from streamer.kafka.topics import create_topics, declared_topics
from streamer.settings import Settings, load_settings
from tests.conftest import RunStreamer, names_of_its_own
from tests.worker import live

LINE = b'{"visitor_id": "v"}'


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(tmp_path_factory.mktemp("mortal")) as broker:
        yield broker


def has_topics(settings: Settings) -> bool:
    """False while the broker isn't back in its cluster, after it was frozen."""
    try:
        asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    except (StreamerError, KafkaError):
        return False
    return True


@pytest.fixture
def settings(broker: EmbeddedKafka) -> Iterator[Settings]:
    own = {
        "kafka.bootstrap_servers": broker.bootstrap,
        "kafka.request_timeout_ms": 3000,
        "kafka.connect_timeout_s": 10,
        **names_of_its_own(),
    }
    settings = load_settings(overrides=own, environ={})
    live.wait_until(lambda: has_topics(settings))
    yield settings
    broker.signal(signal.SIGCONT)


async def lines(count: int) -> AsyncIterator[list[bytes]]:
    for _ in range(count):
        yield [LINE + b" " * 100_000] * 10


async def lines_until_frozen(broker: EmbeddedKafka, produced: Produced) -> AsyncIterator[list[bytes]]:
    yield [LINE] * 10
    while produced.sent < 10:  # noqa: ASYNC110, who counts them has no event
        await asyncio.sleep(0.05)
    broker.signal(signal.SIGSTOP)
    for _ in range(10):
        yield [LINE] * 10


def test_produce_does_not_wait_for_ever_for_its_acknowledgements(
    broker: EmbeddedKafka, settings: Settings
) -> None:
    produced = Produced()
    with pytest.raises(ProduceError, match=r"did not take clicks for .*: 10 are acknowledged, and some of"):
        asyncio.run(produce(settings, lines_until_frozen(broker, produced), produced=produced))
    assert produced.sent == 10


def test_silence_of_a_broker_is_not_the_end_of_a_topic(broker: EmbeddedKafka, settings: Settings) -> None:
    async def subscribe() -> None:
        await produce(settings, lines(1))
        async for _ in records(settings.kafka, settings.topics.clicks, timeout_s=2):
            broker.signal(signal.SIGSTOP)

    with pytest.raises(SubscribeError, match=r"can't read .*: KafkaTimeoutError"):
        asyncio.run(subscribe())


def test_a_topic_that_is_read_to_its_end_is_not_waited_for_without_a_bound(
    broker: EmbeddedKafka, settings: Settings
) -> None:
    async def read() -> None:
        await produce(settings, lines(300))
        async for _ in snapshot(settings.kafka, settings.topics.clicks):
            broker.signal(signal.SIGSTOP)

    with pytest.raises(SubscribeError, match=r"can't read .*: KafkaTimeoutError"):
        asyncio.run(read())


def test_an_erasure_that_is_not_acknowledged_everywhere_is_an_error(
    broker: EmbeddedKafka, settings: Settings
) -> None:
    async def erase_many() -> None:
        await erase(settings, ["v"], requested_at=1)
        copies = settings.topics.partitions
        async with aclosing(records(settings.kafka, settings.topics.erasures)) as seen:
            for _ in range(copies):
                await anext(seen)
            work = asyncio.create_task(erase(settings, [f"v{n}" for n in range(20_000)], requested_at=1))
            await anext(seen)
            broker.signal(signal.SIGSTOP)
        await work

    with pytest.raises(NotTakenError, match="did not take all erasures"):
        asyncio.run(erase_many())


@pytest.mark.parametrize(
    "command",
    [
        *("topics create", "topics check", "doctor", "produce -", "subscribe intents --timeout 1", "dlq ls"),
        *("dlq replay --all", "erase --visitor v", "erase --visitor v --dry-run --verify"),
    ],
)
def test_without_a_broker_nothing_is_done(run_streamer: RunStreamer, command: str) -> None:
    nowhere = load_settings(
        overrides={"kafka.bootstrap_servers": "127.0.0.1:9", "kafka.connect_timeout_s": 1}, environ={}
    )
    done = run_streamer(*command.split(), settings=nowhere, stdin=LINE.decode())
    assert done.returncode == 1
    assert "no Kafka broker answers at 127.0.0.1:9" in done.stdout + done.stderr
