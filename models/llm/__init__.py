"""A language model as the teacher: an OpenAI-compatible endpoint makes the taxonomy and labels sessions.

Needs the extra `[train]` and an endpoint; never imported by serving. Nothing leaves the machine but
renderings of sessions that were scrubbed, without ids. Whatever comes back is checked here before it is
used: a server may ignore the requested format, and a visitor may type instructions.
"""
