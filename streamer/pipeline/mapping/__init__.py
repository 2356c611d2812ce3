"""Clicks out of records of any shape, as a mapping file says: `spec` reads the file, `plan` compiles it."""
