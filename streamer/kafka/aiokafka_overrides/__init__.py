"""Every place where the product replaces, wraps or reads private parts of aiokafka.

- `install`: the overrides that all clients of a process share; `client_arguments` installs them.
- `metadata_request`: asking for a topic creates none.
- `unpacking`, `fetched`: bounded decompression, and records of a fetch many at once.
- `packing`: batches that are packed at once for a producer.
- `connections`: brokers that don't answer are given up in time.
- `repeated_messages`: warnings and errors are collapsed.
- `fetch_answers`: when each fetch was sent and what its answer said.
- `membership`: what the group's answers say about this member.
- `cancellation`: aiokafka's cancellations, kept apart from our own.
- `admin`: administration while brokers are down.
- `transactions`: partitions in a transaction without a record.
- `assignor`: round robin over some partitions of a topic.
- `topics_request`: a request that aiokafka has no class for.
"""

WRITTEN_FOR = "0.14.0"
"""The version of aiokafka whose private parts were read for this; a test names what has changed since."""
