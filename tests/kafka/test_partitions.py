"""Keys go to the partitions that Kafka's Java clients choose."""

from __future__ import annotations

import pytest

from streamer.kafka.partitions import PartitionChooser, hash_of

JAVA_HASHES = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""Expected values of the Java client's own test of murmur2 (UtilsTest.testMurmur2)."""


@pytest.mark.parametrize(("key", "java"), JAVA_HASHES.items())
def test_hash_is_the_one_of_the_java_client(key: bytes, java: int) -> None:
    assert hash_of(key) == java & 0x7FFFFFFF


def test_key_stays_in_its_partition() -> None:
    choose = PartitionChooser(7)
    assert {choose(b"foobar") for _ in range(3)} == {(-790332482 & 0x7FFFFFFF) % 7}


def test_records_without_a_key_take_turns() -> None:
    choose = PartitionChooser(3)
    assert sorted(choose(None) for _ in range(6)) == [0, 0, 1, 1, 2, 2]
