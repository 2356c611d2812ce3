from __future__ import annotations

import dataclasses

import pytest

from streamer.models.simulator import SimulatorConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("page_noise", 1.01),
        ("page_noise", -0.01),
        ("visitors", 1),
        ("sessions_per_visitor", 0.9),
        ("tiles_shown", 1),
        ("signal_strength", -1.0),
        ("bot_share", 0.95),
        ("seed", -1),
        ("drift", float("nan")),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_name_and_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"simulator: {name} = .*, expected .* to "):
        SimulatorConfig(**{name: value})


def test_missing_and_wrong_links_together_are_at_most_all_links() -> None:
    with pytest.raises(ValueError, match="missing_link_rate"):
        SimulatorConfig(missing_link_rate=0.6, wrong_link_rate=0.5)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SimulatorConfig().seed = 1


def test_the_ends_of_a_range_are_allowed() -> None:
    assert SimulatorConfig(page_noise=1.0, drift=0.0).page_noise == 1.0
