"""A schema registry, by Confluent's protocol: what records were written with, and under which ids."""
