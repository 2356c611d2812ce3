"""Faults against the real worker and the real broker; `python -m tests.chaos --help`."""
