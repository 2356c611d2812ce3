"""What does and what does not change a simulation."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.models.simulator import Simulated, SimulatorConfig, load_catalogue, simulate, write
from streamer.models.simulator.catalogue import read_catalogue
from streamer.models.simulator.files import TABLES, read_table

SMALL = SimulatorConfig(seed=3, visitors=120)


@pytest.fixture(scope="module")
def small() -> Simulated:
    return simulate(SMALL)


def tables(simulated: Simulated) -> dict[str, list[dict[str, Any]]]:
    return {table: list(getattr(simulated, table)()) for table in TABLES}


def renamed_catalogue(rename: Callable[[str], str]) -> dict[str, Any]:
    """The shipped catalogue with other names of intents and parents, as if the file had been written so."""
    data = read_catalogue()
    for parent in data["parent"]:
        parent["id"] = rename(parent["id"])
    for intent in data["intent"]:
        intent["id"], intent["parent"] = rename(intent["id"]), rename(intent["parent"])
        intent["related"] = [rename(name) for name in intent["related"]]
    for campaign in data["campaign"]:
        campaign["intent"] = rename(campaign["intent"])
    return data


def test_the_same_seed_gives_the_same_tables(small: Simulated) -> None:
    assert tables(simulate(SMALL)) == tables(small)


def test_another_seed_gives_other_clicks(small: Simulated) -> None:
    assert list(simulate(replace(SMALL, seed=4)).clicks()) != list(small.clicks())


def test_renaming_all_latent_intents_changes_nothing_but_their_names(small: Simulated) -> None:
    chance = random.Random(8)
    names: dict[str, str] = {}

    def rename(name: str) -> str:
        return names.setdefault(name, f"{chance.getrandbits(96):024x}")

    other = simulate(SMALL, load_catalogue(renamed_catalogue(rename)))
    before, after = tables(small), tables(other)
    for table in ("clicks", "users", "impressions", "conversions", "outcomes"):
        assert after[table] == before[table], table
    for old, new in zip(before["sessions"], after["sessions"], strict=True):
        old["intents"] = [names[name] for name in old["intents"]]
        old["parents"] = [names[name] for name in old["parents"]]
        assert new == old


def test_a_knob_of_the_app_leaves_the_clicks_as_they_are(small: Simulated) -> None:
    stronger = simulate(replace(SMALL, signal_strength=2.0, wrong_link_rate=0.2))
    assert list(stronger.clicks()) == list(small.clicks())
    assert list(stronger.sessions()) == list(small.sessions())
    assert list(stronger.conversions()) != list(small.conversions())


def test_global_random_state_is_neither_read_nor_moved(small: Simulated) -> None:
    def state() -> tuple[object, list[int]]:
        return random.getstate(), np.random.get_state()[1].tolist()

    random.seed(1)
    np.random.seed(1)
    before = state()
    assert list(simulate(SMALL).clicks()) == list(small.clicks())
    assert state() == before


def test_files_are_the_same_byte_for_byte_and_read_back_as_the_tables(
    small: Simulated, tmp_path: Path
) -> None:
    first, second = write(small, tmp_path / "a"), write(small, tmp_path / "b")
    for table in TABLES:
        assert first[table].read_bytes() == second[table].read_bytes()
        assert list(read_table(first[table])) == list(getattr(small, table)())
    assert (tmp_path / "a" / "config.json").read_bytes() == (tmp_path / "b" / "config.json").read_bytes()
