"""Each mechanism broken on purpose; `python -m tests.mutants` shows that a test goes red for it."""
