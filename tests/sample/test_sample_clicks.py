from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamer import sample
from streamer.models.simulator import SimulatorConfig, simulate
from streamer.models.simulator.households import draw_households
from streamer.pipeline.decode import ClickDecoder


@pytest.fixture(scope="module")
def clicks() -> list[dict[str, Any]]:
    with gzip.open(sample.path(), "rb") as lines:
        return [orjson.loads(line) for line in lines]


def test_the_sample_is_small_and_in_order_of_event_time(clicks: list[dict[str, Any]]) -> None:
    assert sample.path().stat().st_size < 300_000
    times = [click["timestamp"] for click in clicks]
    assert times == sorted(times)
    assert 3_000 <= len(clicks) <= 6_000


def test_every_sample_click_is_accepted_or_filtered_by_the_decoder(clicks: list[dict[str, Any]]) -> None:
    decoder = ClickDecoder("json")
    for click in clicks:
        arrived = decoder.decode(orjson.dumps(click), click["timestamp"], "none")
        assert (arrived is None) == (click.get("consent") is False)


def test_the_sample_is_what_the_documented_settings_give(clicks: list[dict[str, Any]]) -> None:
    config = json.loads((Path(sample.__file__).parent / "config.json").read_text())
    simulated = simulate(SimulatorConfig(**config["simulator"]))
    made = list(draw_households(simulated, **config["households"]).clicks())
    assert len(made) == len(clicks)
    # Dwell times go through exp(): its last digit, and so a millisecond, may differ with the processor.
    same = sum(a == b for a, b in zip(made, clicks, strict=True))
    assert same > 0.98 * len(clicks)


def test_the_readme_counts_what_is_in_the_sample(clicks: list[dict[str, Any]]) -> None:
    readme = (Path(sample.__file__).parent / "README.md").read_text()
    visitors = len({click["visitor_id"] for click in clicks})
    refused = sum(click.get("consent") is False for click in clicks)
    searches = sum("search_query" in click for click in clicks)
    logged_in = sum("user_id" in click for click in clicks)
    for words in (
        f"{len(clicks):,} clicks of {visitors} visitors",
        f"{refused} clicks of visitors",
        f"{searches} searches",
        f"{logged_in} clicks after a login",
    ):
        assert words in " ".join(readme.split())
