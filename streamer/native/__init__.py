"""C without rules: the bytes of Kafka batches."""
