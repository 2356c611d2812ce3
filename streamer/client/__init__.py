"""What services use that read intents and embeddings: `from streamer.client import UserView, VisitorView`."""

from streamer.client.table import UserState, UserTable, VisitorState, VisitorTable
from streamer.client.view import UserView, ViewError, VisitorView

__all__ = ["UserState", "UserTable", "UserView", "ViewError", "VisitorState", "VisitorTable", "VisitorView"]
