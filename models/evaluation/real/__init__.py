"""Public clickstreams: three sites that are no bank, with the outcomes their sources know.

Rules: visitors are split by the same hash as everywhere; whatever is chosen is chosen on training and
validation visitors; the test split is read once, when a step's result is made.
"""
