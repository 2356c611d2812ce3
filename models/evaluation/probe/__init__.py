"""What the session embedding is worth to a team that has features and outcomes of its own."""
