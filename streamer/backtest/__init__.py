"""Two bundles or more over the same sessions: what they see differently, and which one serves better."""
