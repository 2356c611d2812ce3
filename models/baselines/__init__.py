"""What the encoder is measured against: other ways from sessions to vectors, behind one interface.

All of them read the same tokens, have the encoder's width, see the same sessions as often as its compute
budget allows, and get the same heads on top. Needs the extra `[train]`.
"""
