"""Everything at once on one machine: a real Kafka, a worker, sample clicks, intents in the terminal."""
