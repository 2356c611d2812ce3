"""Sinks: the latest records of visitors and customers, copied to where others look them up."""
