"""The identity stages while live: attribution by visitor, then records by user."""
