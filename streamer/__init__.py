"""From web clicks to sessions, embeddings and intents on Kafka."""

import streamer.schemas  # noqa: F401, first of all: it decides which build runs

__version__ = "0.2.0"
