"""A scorer made of a team's own features, its visitors' clicks, and the session embedding: numpy alone.

`streamer model probe --out` writes it, `FusedScorer.load` reads it.
"""
