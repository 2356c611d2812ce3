"""Public clickstreams of three sites that are not banks, with known outcomes.

Visitors are split by the same hash as everywhere; whatever is chosen is chosen on training and
validation visitors; the test split is read once, when a step's result is made.
"""
