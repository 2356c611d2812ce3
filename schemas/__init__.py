"""The contracts between producers, worker, models and consumers of the topics."""

from schemas import build  # noqa: F401, before any module that it may pass by
