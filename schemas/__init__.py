"""The contracts between producers, worker, models and consumers of the topics."""
