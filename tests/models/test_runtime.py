"""Which shapes the graphs are run at, and that it doesn't show."""

from __future__ import annotations

import numpy as np
import pytest

from models.bundle import Bundle
from models.encoded import LENGTH_BUCKETS
from models.runtime import Outputs, Runtime
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
        widths, heads = small_bundle.runtime.shapes[length]
        batch = small_bundle.manifest.batch_of_length[str(length)]
        assert list(widths) == sorted({4 * batch, batch, batch // 4, 1}, reverse=True)
        assert all(len(some) > 1 and some[-1] == length for some in widths.values())
        assert len(heads) > 1


def test_where_shapes_disagree_the_pinned_one_alone_is_used(small_bundle: Bundle) -> None:
    batches = small_bundle.runtime.batch_of_length
    expected = {length: ({batch: [length]}, (batch,)) for length, batch in batches.items()}
    assert pinned(small_bundle).shapes == expected


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
