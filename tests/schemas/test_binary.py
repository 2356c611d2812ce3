"""Avro's encoding of single values, against fastavro."""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from fastavro import schemaless_writer
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.schemas.binary import BinaryEncoder, part

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def written(write: Callable[[BinaryEncoder], object]) -> bytes:
    encoder = BinaryEncoder()
    write(encoder)
    return encoder.to_bytes()


def generic(schema: str, value: Any) -> bytes:
    stream = BytesIO()
    schemaless_writer(stream, {"type": schema}, value)
    return stream.getvalue()


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-70, 70))
@example(-(2**63))
@example(2**63 - 1)
def test_a_long_is_written_in_its_shortest_form(number: int) -> None:
    assert written(lambda to: to.write_long(number)) == generic("long", number)


@given(TEXTS | st.sampled_from(["é" * n for n in (31, 32, 63, 64, 4095, 4096, 9000)]))
def test_a_string_is_its_length_in_bytes_and_its_bytes(text: str) -> None:
    assert written(lambda to: to.write_string(text)) == generic("string", text)


@given(st.floats(width=32), st.booleans())
def test_a_float_is_four_bytes_and_a_boolean_one(number: float, flag: bool) -> None:
    assert written(lambda to: to.write_float(number)) == generic("float", number)
    assert written(lambda to: to.write_boolean(flag)) == generic("boolean", flag)


@given(st.lists(st.binary(max_size=3000), max_size=5))
def test_values_lie_end_to_end(values: list[bytes]) -> None:
    encoder = BinaryEncoder()
    for each in values:
        encoder.write_encoded(each)
    assert encoder.to_bytes() == b"".join(values)
    assert encoder.size() == len(encoder.to_bytes())


@given(st.binary(max_size=9), st.data())
def test_a_part_of_bytes_is_what_lies_between_two_places(encoded: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(encoded)))
    end = data.draw(st.integers(start, len(encoded)))
    assert part(encoded, start, end) == encoded[start:end]
    assert written(lambda to: to.write_part(encoded, start, end)) == encoded[start:end]


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2), (0, 5)])
def test_a_part_from_outside_is_refused(start: int, end: int) -> None:
    for take in (part, BinaryEncoder().write_part):
        with pytest.raises(ValueError, match=f"0 to 4 bytes, found {start} and {end}"):
            take(b"four", start, end)


@given(st.integers(0, 2**32 - 1))
def test_a_fixed_number_has_its_lowest_byte_first(number: int) -> None:
    assert written(lambda to: to.write_fixed(number, 4)) == number.to_bytes(4, "little")


@pytest.mark.parametrize(("number", "size"), [(65_536, 2), (2**32, 4), (-1, 2)])
def test_a_number_that_is_too_large_for_its_bytes_is_refused(number: int, size: int) -> None:
    with pytest.raises(OverflowError):
        BinaryEncoder().write_fixed(number, size)


@given(st.binary(max_size=9), st.binary(max_size=9), st.binary(max_size=9), st.binary(max_size=9))
def test_an_excerpt_leaves_out_what_lies_between_two_places(
    prefix: bytes, first: bytes, left_out: bytes, last: bytes
) -> None:
    encoder = BinaryEncoder()
    encoder.write_encoded(first)
    until = encoder.size()
    encoder.write_encoded(left_out)
    resume = encoder.size()
    encoder.write_encoded(last)
    assert encoder.excerpt(prefix, until, resume) == prefix + first + last


@pytest.mark.parametrize(("until", "resume"), [(5, 0), (0, 5), (-1, 0), (0, -1)])
def test_an_excerpt_from_outside_is_refused(until: int, resume: int) -> None:
    encoder = BinaryEncoder()
    encoder.write_encoded(b"four")
    with pytest.raises(ValueError, match=r"0 to 4 bytes"):
        encoder.excerpt(b"", until, resume)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_number_beyond_64_bits_is_refused(number: int) -> None:
    with pytest.raises(OverflowError):
        BinaryEncoder().write_long(number)


def test_what_is_not_of_its_type_is_refused() -> None:
    encoder: Any = BinaryEncoder()
    for write in (encoder.write_encoded, encoder.write_long, encoder.write_float, encoder.write_string):
        with pytest.raises((TypeError, AttributeError, struct.error)):
            write(None)
    with pytest.raises(UnicodeEncodeError):
        encoder.write_string("\ud800")
    with pytest.raises(OverflowError):
        encoder.write_float(1e300)
