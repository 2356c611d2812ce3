"""Everything that talks to Kafka, but for the worker: a local broker, clients, topics, in and out."""
