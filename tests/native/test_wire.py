"""Checksums of batches, by whatever the processor has for them, and hashes of keys."""

from aiokafka.partitioner import murmur2
from aiokafka.record._crc32c import crc as crc_by_tables
from hypothesis import given
from hypothesis import strategies as st

from streamer.native import wire


@given(st.binary(max_size=100), st.integers(0, 100))
def test_the_checksum_is_crc_32c(data: bytes, start: int) -> None:
    start = min(start, len(data))
    assert wire.crc32c(data, start) == wire.portable_crc32c(data[start:]) == crc_by_tables(data[start:])
    assert wire.crc32c(b"123456789") == wire.portable_crc32c(b"123456789") == 0xE3069283


@given(st.binary(max_size=100))
def test_a_key_has_the_hash_that_the_client_in_python_gives_it(key: bytes) -> None:
    assert wire.murmur2(key) == murmur2(key) & 0x7FFFFFFF
