"""The contracts between producers, worker, models and consumers of the topics."""

from streamer.schemas import build  # noqa: F401, before any module that it may pass by
