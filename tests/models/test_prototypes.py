"""Memberships in prototypes, and which files of prototypes are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.models.arrays import Float32
from streamer.models.prototypes import MOST, Prototypes, from_json, to_json
from streamer.models.sphere import Sphere

DIM = 12


def made(count: int = 5, temperature: float = 0.1) -> Prototypes:
    rng = np.random.default_rng(3)
    directions = rng.normal(size=(count, DIM))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    centre = rng.normal(size=DIM).astype(np.float32)
    return from_json(to_json("space", temperature, Sphere(centre), directions.astype(np.float32)))


PROTOTYPES = made()
EMBEDDINGS = np.random.default_rng(1).normal(size=(700, DIM)).astype(np.float32)


def test_a_file_gives_back_what_was_written() -> None:
    assert (len(PROTOTYPES), PROTOTYPES.embedding_space, PROTOTYPES.temperature) == (5, "space", 0.1)
    again = from_json(to_json("space", 0.1, PROTOTYPES.sphere, PROTOTYPES.directions))
    assert again.version == PROTOTYPES.version != made(count=4).version
    assert np.array_equal(again.directions, PROTOTYPES.directions)


def test_memberships_are_shares_and_the_nearest_prototype_has_the_largest() -> None:
    found = PROTOTYPES.memberships(EMBEDDINGS)
    assert found.shape == (len(EMBEDDINGS), 5)
    assert found.dtype == np.float32
    assert (found >= 0).all()
    assert np.allclose(found.sum(1), 1, atol=1e-6)
    points = PROTOTYPES.sphere.project(EMBEDDINGS)
    assert np.array_equal(found.argmax(1), (points @ PROTOTYPES.directions.T).argmax(1))


def test_the_hotter_the_more_alike() -> None:
    cold, hot = (made(temperature=t).memberships(EMBEDDINGS).max(1).mean() for t in (0.01, 10.0))
    assert cold > 0.9
    assert hot < 0.25


@given(st.lists(st.integers(0, len(EMBEDDINGS) - 1), min_size=1, max_size=400))
def test_a_row_does_not_depend_on_the_others_bit_for_bit(rows: list[int]) -> None:
    everything = PROTOTYPES.memberships(EMBEDDINGS)
    assert PROTOTYPES.memberships(EMBEDDINGS[rows]).tobytes() == everything[rows].tobytes()
    assert PROTOTYPES.memberships(EMBEDDINGS[rows[:1]]).tobytes() == everything[rows[:1]].tobytes()


def test_no_sessions_have_none_and_what_is_not_finite_disturbs_no_other() -> None:
    assert PROTOTYPES.memberships(EMBEDDINGS[:0]).shape == (0, 5)
    broken: Float32 = EMBEDDINGS[:3].copy()
    broken[1, 0] = np.inf
    found = PROTOTYPES.memberships(broken)
    assert np.array_equal(found[[0, 2]], PROTOTYPES.memberships(EMBEDDINGS[[0, 2]]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "format is 2, expected 1"),
        ({"temperature": 0}, r"temperature is 0.0, expected 0.001 to 1000"),
        ({"directions": [[1.0] + [0.0] * (DIM - 1)]}, f"there are 1, expected 2 to {MOST}"),
        ({"directions": [[1.0] + [0.0] * (DIM - 1)] * (MOST + 1)}, f"there are {MOST + 1}"),
        ({"directions": [[1.0, 0.0]] * 3}, f"number 0 has 2 numbers, the centre {DIM}"),
        ({"directions": [[2.0] + [0.0] * (DIM - 1)] * 3}, "number 0 is of length 2, expected 1"),
        ({"directions": [[0.0] * DIM] * 3}, "number 0 is of length 0, expected 1"),
        ({"centre": [1e999] * DIM}, "can't be read"),
        ({"more": 1}, "can't be read"),
    ],
)
def test_what_are_no_prototypes_is_refused(change: dict[str, object], reason: str) -> None:
    document = json.loads(to_json("space", 0.1, PROTOTYPES.sphere, PROTOTYPES.directions))
    with pytest.raises(ValueError, match=reason):
        from_json(json.dumps(document | change).encode())
