"""Which shapes the graphs are run at, and that it doesn't show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.models.bundle import Bundle
from streamer.models.encoded import LENGTH_BUCKETS
from streamer.models.runtime import Outputs, Runtime, _batches, _random_sessions, feed_of
from tests.models.hand_made import bank_sessions, of_length


class Distrustful(Runtime):
    """In which no shape gives what another gives."""

    def _bits(self, *_: object) -> None:
        return None


def pinned(bundle: Bundle) -> Runtime:
    graphs = [(bundle.path / name).read_bytes() for name in ("encoder.onnx", "classifier.onnx")]
    return Distrustful(graphs[0], graphs[1], bundle.runtime.batch_of_length)


def test_a_bucket_has_several_widths_and_sizes_of_batches(small_bundle: Bundle) -> None:
    for length in LENGTH_BUCKETS:
        sizes, heads = small_bundle.runtime.shapes[length]
        pinned = small_bundle.manifest.batch_of_length[str(length)]
        assert list(sizes)[-1] == length
        assert len(sizes) > 1
        assert all(pinned in some and max(some) * length == 512 for some in sizes.values())
        assert max(heads) == 64


def test_where_shapes_disagree_the_pinned_one_alone_is_used(small_bundle: Bundle) -> None:
    batches = small_bundle.runtime.batch_of_length
    expected = {length: ({length: (batch,)}, (batch,)) for length, batch in batches.items()}
    assert pinned(small_bundle).shapes == expected


SIZES = st.sets(st.sampled_from([1, 2, 3, 4, 6, 8, 16]), min_size=1).map(sorted)


@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=60).map(sorted),
    st.dictionaries(st.integers(1, 7), SIZES),
    SIZES,
)
def test_each_session_is_in_one_batch_that_it_fits_into(
    lengths: list[int], sizes: dict[int, list[int]], widest: list[int]
) -> None:
    shapes = dict(sorted(sizes.items())) | {8: widest}
    batches = _batches(np.array(lengths, np.int32), shapes)
    assert [i for batch in batches for i in range(batch.start, batch.end)] == list(range(len(lengths)))
    for start, end, width, size in batches:
        assert size in shapes[width]
        assert 1 <= end - start <= size
        assert lengths[end - 1] <= width


def test_sessions_are_padded_where_that_costs_less_than_a_batch_of_their_own() -> None:
    shapes = dict.fromkeys((1, 2, 8), (1, 2, 4, 8, 16))

    def widths_and_sizes(*lengths: int) -> list[tuple[int, int]]:
        return [(batch.width, batch.size) for batch in _batches(np.array(lengths, np.int32), shapes)]

    assert widths_and_sizes(*[1] * 4, 2) == [(2, 8)]
    assert widths_and_sizes(*[1] * 3, 8) == [(1, 2), (8, 2)]
    assert widths_and_sizes(*[1] * 16, 8) == [(1, 16), (8, 1)]
    assert widths_and_sizes(*[8] * 6) == [(8, 8)]
    assert widths_and_sizes(*[8] * 5) == [(8, 4), (8, 1)]


@pytest.mark.compiled
@given(st.data())
def test_compiled_or_not_the_inputs_are_the_same(data: st.DataObject) -> None:
    count, length = data.draw(st.integers(1, 12)), data.draw(st.sampled_from(LENGTH_BUCKETS))
    longest = data.draw(st.integers(1, length))
    encoded = _random_sessions(longest, length, count, data.draw(st.sampled_from([10, 11, 30])))
    encoded.query_slot[:] *= np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))[
        :, None
    ]
    order = np.array(data.draw(st.permutations(range(count))), np.int64)
    start = data.draw(st.integers(0, count - 1))
    end = data.draw(st.integers(start + 1, count))
    width, size = data.draw(st.integers(longest, length)), data.draw(st.integers(end - start, 16))
    from streamer.models import tokens

    ours = tokens.feed(encoded, order, start, end, width, size)
    theirs = feed_of(encoded, order, start, end, width, size)
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype
        assert array.tolist() == theirs[name].tolist()


@pytest.mark.compiled
@pytest.mark.parametrize(
    "batch", [(-1, 1, 8, 4), (1, 1, 8, 4), (0, 3, 8, 4), (0, 2, 8, 1), (0, 2, 9, 4)], ids=str
)
def test_a_batch_that_there_can_t_be_is_refused(batch: tuple[int, int, int, int]) -> None:
    from streamer.models import tokens

    encoded = _random_sessions(8, 8, 2)
    with pytest.raises(ValueError, match="no such batch"):
        tokens.feed(encoded, encoded.rows, *batch)
    with pytest.raises(ValueError, match="no such session"):
        tokens.feed(encoded, encoded.rows + 1, 0, 2, 8, 2)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 12, 13, 16, 40, 300])
def test_results_are_those_of_the_pinned_shapes_bit_for_bit(small_bundle: Bundle, count: int) -> None:
    lengths = np.random.default_rng(count).integers(1, 65, count).tolist()
    sessions = bank_sessions(count, seed=count) + [of_length(length) for length in lengths]
    expected = pinned(small_bundle)
    for encoded in small_bundle.tokenizer.encode(sessions):
        ours, theirs = small_bundle.runtime.run(encoded), expected.run(encoded)
        assert bits(ours) == bits(theirs)


def bits(outputs: Outputs) -> list[bytes]:
    return [array.tobytes() for array in outputs]
