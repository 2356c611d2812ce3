"""What services use that read intents and embeddings: `from streamer.client import VisitorView`."""

from streamer.client.table import VisitorState, VisitorTable
from streamer.client.view import ViewError, VisitorView

__all__ = ["ViewError", "VisitorState", "VisitorTable", "VisitorView"]
