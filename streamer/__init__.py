"""From web clicks to sessions, embeddings and intents on Kafka."""

__version__ = "0.1.0"
