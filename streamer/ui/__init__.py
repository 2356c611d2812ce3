"""The live page: what visitors want right now, and why the model thinks so."""
