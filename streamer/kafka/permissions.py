"""What the cluster forbids, in words: an authorizer's refusal as an error that names what is missing."""

from __future__ import annotations

from streamer.errors import StreamerError

WHAT_TO_DO = "ask for what 'streamer acls --print' lists"


class NotPermittedError(StreamerError):
    """The cluster knows us and doesn't let us do this; trying again is no use."""


def refusal(error: BaseException, doing: str) -> NotPermittedError | None:
    """The error for the user if an authorizer refused; None for any other. `doing`: "read topic x"."""
    from aiokafka import errors

    refused = (
        errors.TopicAuthorizationFailedError,
        errors.GroupAuthorizationFailedError,
        errors.ClusterAuthorizationFailedError,
        errors.TransactionalIdAuthorizationFailed,
    )
    if not isinstance(error, refused):
        return None
    return NotPermittedError(f"not permitted to {doing} ({type(error).__name__}): {WHAT_TO_DO}")
