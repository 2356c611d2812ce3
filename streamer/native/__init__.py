"""C without rules: the bytes of Kafka batches, and which build of the product runs."""
