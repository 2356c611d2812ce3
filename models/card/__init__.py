"""The model and data card: every claim with the file that it was read from."""
