"""No worker outlives its test here either."""

from tests.worker.conftest import _stop_workers  # noqa: F401
