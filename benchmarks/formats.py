"""Clicks in Avro beside the same clicks in JSON: CPU a click of the worker, and of decoding alone."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import orjson

from benchmarks.backlog import Backlog
from benchmarks.clicks import clicks
from benchmarks.pairs import Spread, ratios, spread
from benchmarks.throughput import Bench
from streamer.kafka.embedded import EmbeddedKafka
from streamer.pipeline.decode import ClickDecoder
from streamer.schemas import codec

STAGES = ("sessionize", "with_model")
DECODED = 20_000


@dataclass(frozen=True)
class Formats:
    """Microseconds of CPU a click; `ratio` is Avro's to JSON's."""

    json_us: Spread
    avro_us: Spread
    ratio: Spread


def measure(count: int, rounds: int) -> dict[str, Formats]:
    """The worker's stages, and `decode`: one click to what the sessionizer takes."""
    found = {"decode": _decoding(rounds)}
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder)) as kafka:
        benches = (
            Bench(Backlog(kafka, count, prefix="json-")),
            Bench(Backlog(kafka, count, prefix="avro-", form=as_avro)),
        )
        idle = {name: [each.run(name, each.backlog.empty) for each in benches] for name in STAGES}
        for name in STAGES:
            pairs = [
                tuple(
                    each.run(name, each.backlog.full).less(start).cpu_us
                    for each, start in zip(benches, idle[name], strict=True)
                )
                for _ in range(rounds)
            ]
            found[name] = compared([(json, avro) for json, avro in pairs])
    return found


def as_avro(value: bytes) -> bytes:
    """A JSON click in Confluent wire format."""
    return codec.encode("click", orjson.loads(value))


def compared(pairs: Sequence[tuple[float, float]]) -> Formats:
    """`pairs`: JSON and Avro of each round."""
    return Formats(spread(json for json, _ in pairs), spread(avro for _, avro in pairs), ratios(pairs))


def _decoding(rounds: int) -> Formats:
    json = [value for _, value in islice(clicks(DECODED), DECODED)]
    avro = [as_avro(value) for value in json]
    return compared([(_decode_us(json), _decode_us(avro)) for _ in range(rounds)])


def _decode_us(values: Sequence[bytes]) -> float:
    decode = ClickDecoder().decode
    began = time.process_time()
    for value in values:
        decode(value, None, "")
    return (time.process_time() - began) / len(values) * 1e6
