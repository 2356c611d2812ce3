"""No worker outlives its test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.worker.live import end_all


@pytest.fixture(autouse=True)
def _stop_workers() -> Iterator[None]:
    yield
    end_all()
