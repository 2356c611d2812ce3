"""How useful are embeddings and labels? Two tasks, splits without leaks, confidence intervals.

Tile ranking: which of the tiles shown in the app was clicked. Conversion: what a visitor buys after a web
session. Everything is fitted on training and validation visitors; test rows are scored once. Arrays in,
plain dictionaries out; needs scipy and scikit-learn (extra `[train]`) but no torch.
"""
