"""The way of a click through one partition, from bytes of a record to records of its sessions: no I/O."""
