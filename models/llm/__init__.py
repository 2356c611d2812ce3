"""A language model as the teacher: any chat endpoint of OpenAI's kind makes the taxonomy and labels sessions.

Needs the extra `[train]` and an endpoint; never imported by serving. Nothing leaves the machine but
renderings of sessions that were scrubbed, without ids. Whatever comes back is checked here before it is
used: a server may ignore the format that it was asked for, and a visitor may type instructions.
"""
