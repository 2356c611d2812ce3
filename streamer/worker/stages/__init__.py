"""The stages of a worker beside that of the sessions: clicks by visitor before it, customers behind it."""
