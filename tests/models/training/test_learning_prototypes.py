"""Prototypes learnt from made vectors."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from streamer.models.arrays import Float32
from streamer.models.prototypes import from_json
from streamer.models.training import prototypes as learning
from streamer.models.training.prototypes import FEWEST, learn_prototypes

DIM = 16


def around(directions: Float32, count: int, spread: float, seed: int) -> Float32:
    rng = np.random.default_rng(seed)
    chosen = directions[rng.integers(len(directions), size=count)]
    return (5 + chosen + rng.normal(scale=spread, size=chosen.shape)).astype(np.float32)


DIRECTIONS = np.concatenate([np.eye(DIM), -np.eye(DIM)]).astype(np.float32)[:FEWEST]


def test_each_direction_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "MOST", FEWEST)
    train, validation = (around(DIRECTIONS, n, 0.03, seed) for n, seed in ((1500, 1), (500, 2)))
    learnt = learn_prototypes("space", train, validation, seed=7)
    assert learnt is not None
    prototypes = from_json(learnt.content)
    assert len(prototypes) == learnt.notes["prototypes"] == FEWEST
    assert prototypes.embedding_space == "space"
    near = prototypes.sphere.project(DIRECTIONS + 5) @ prototypes.directions.T
    assert (near.max(1) > 0.99).all()
    assert (prototypes.memberships(validation).max(1) > 0.9).mean() > 0.99


def test_the_wider_the_clusters_the_softer_the_memberships() -> None:
    temperatures = []
    for spread in (0.03, 0.2):
        train, validation = (around(DIRECTIONS, n, spread, seed) for n, seed in ((1500, 1), (500, 2)))
        learnt = learn_prototypes("space", train, validation, seed=7)
        assert learnt is not None
        temperatures.append(from_json(learnt.content).temperature)
    assert temperatures[0] < temperatures[1]


def test_the_same_seed_gives_the_same_bytes() -> None:
    train, validation = (around(DIRECTIONS, n, 0.1, seed) for n, seed in ((400, 1), (100, 2)))
    once, again = (learn_prototypes("space", train, validation, seed=7) for _ in range(2))
    assert once is not None
    assert again is not None
    assert once.content == again.content


@pytest.mark.parametrize("differing", [0, 4 * FEWEST - 2])
def test_vectors_that_are_alike_have_none(differing: int) -> None:
    vectors = np.ones((2000, DIM), np.float32)
    vectors[:differing] += np.random.default_rng(1).normal(size=(differing, DIM))
    assert learn_prototypes("space", vectors, vectors, seed=7) is None


def test_four_sessions_that_differ_for_each_are_enough() -> None:
    vectors = np.random.default_rng(1).normal(size=(4 * FEWEST, DIM)).astype(np.float32)
    learnt = learn_prototypes("space", vectors, vectors, seed=7)
    assert learnt is not None
    assert learnt.notes["prototypes"] == FEWEST


def test_sessions_in_the_very_centre_are_no_prototype() -> None:
    noise = np.random.default_rng(1).normal(scale=0.02, size=(24, DIM))
    some = (np.repeat(np.eye(DIM)[:4], 6, axis=0) + noise).astype(np.float32)
    opposite = np.stack([some, -some], axis=1).reshape(-1, DIM)  # their mean is 0, exactly
    vectors = np.concatenate([opposite, np.zeros((100, DIM), np.float32)])
    learnt = learn_prototypes("space", vectors, vectors, seed=7)
    assert learnt is not None
    assert len(from_json(learnt.content)) == learnt.notes["prototypes"] == (len(opposite) + 1) // 4 - 1
