"""No worker outlives its test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.worker import live


@pytest.fixture(autouse=True)
def _stop_workers() -> Iterator[None]:
    yield
    for worker in live.STARTED:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.end()
    live.STARTED.clear()
