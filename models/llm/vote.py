"""What one vote says of one session."""

from __future__ import annotations

OTHER = "other"
"""None of the taxonomy's intents."""
Vote = tuple[str, ...]
"""One or two ids of intents, the stronger first, or `(OTHER,)`."""
