"""How good are embeddings and labels at what they are for? Two tasks, honest splits, intervals.

Tile ranking: which of the tiles shown in the app was clicked. Conversion: what a visitor buys after a web
session. Everything is fitted on training and validation visitors; test rows are scored once. Arrays in,
plain dictionaries out; needs scipy and scikit-learn (extra `[train]`) but no torch.
"""
