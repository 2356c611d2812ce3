"""A digest of records stands for the multiset: order and split don't matter, repeats do."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.digest import MultisetDigest

records = st.lists(st.binary(max_size=8), max_size=20)


def digest_of(*parts: list[bytes]) -> MultisetDigest:
    """Each part digested by itself, then merged."""
    whole = MultisetDigest()
    for part in parts:
        digest = MultisetDigest()
        digest.add(part)
        whole.merge(digest)
    return whole


@settings(deadline=None)
@given(records=records, dice=st.randoms(use_true_random=False), cut=st.integers(0, 20))
def test_order_and_split_of_records_do_not_matter(records: list[bytes], dice, cut: int) -> None:
    shuffled = dice.sample(records, len(records))
    assert digest_of(shuffled[:cut], shuffled[cut:]).hexdigest() == digest_of(records).hexdigest()


@settings(deadline=None)
@given(one=records, other=records)
def test_different_multisets_have_different_digests(one: list[bytes], other: list[bytes]) -> None:
    same = digest_of(one).hexdigest() == digest_of(other).hexdigest()
    assert same == (sorted(one) == sorted(other))


@settings(deadline=None)
@given(record=st.binary(max_size=8))
def test_repeated_record_does_not_cancel_out(record: bytes) -> None:
    digests = {digest_of([record] * times).hexdigest() for times in range(5)}
    assert len(digests) == 5


def test_digest_counts_its_records() -> None:
    assert digest_of([b"a", b"a"], [b"b"]).count == 3


def test_no_record_has_the_digest_of_zeros() -> None:
    assert digest_of().hexdigest() == "0" * 32


def test_digest_is_the_same_in_every_version() -> None:
    assert digest_of([b"a", b"b"]).hexdigest() == "bdda89bae6aab45039933ec86a444c96"
