"""What all teachers share: their interface, names of intents, renderings of sessions, the audit of labels."""
