from __future__ import annotations

import pytest

from streamer.models.simulator import Simulated, SimulatorConfig, simulate


@pytest.fixture(scope="session")
def world() -> Simulated:
    """About 4,500 sessions with every default but the number of visitors."""
    return simulate(SimulatorConfig(seed=11, visitors=1_500))
