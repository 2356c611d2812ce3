"""`streamer similar`: whose sessions or profiles are nearest to one."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.cli.lazy import new_app
from streamer.cli.output import print_json, visible
from streamer.errors import StreamerError, UsageError

if TYPE_CHECKING:
    from streamer.serving.records import RecordView, StoredRecord

app = new_app()

_SESSION_ID = re.compile(r"[0-9a-f]{32}")
_DAY_S = 86_400


class NoneSimilarError(StreamerError):
    """There is nothing to compare with."""


class Whose(StrEnum):
    session = "session"
    visitor = "visitor"
    user = "user"


@app.command()
def similar(
    ctx: typer.Context,
    id_: Annotated[
        str,
        typer.Argument(metavar="SESSION|USER", help="The session_id of a visitor's latest, or a user_id."),
    ],
    whose: Annotated[
        Whose | None,
        typer.Option("--as", help="What the id is [default: session for 32 hex digits, else user]."),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", min=1, max=10_000, metavar="N", help="How many at most.")
    ] = 10,
    space: Annotated[
        str | None,
        typer.Option("--space", metavar="SPACE", help="The embedding space that the vector has to be of."),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, metavar="S", help="How long reading the topic may take.")
    ] = 300,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say whose vectors are nearest, exactly, by cosine: latest sessions of visitors, or customers' profiles.

    The topic is read into memory first. For many questions `streamer serve` has an index.
    """
    from streamer.serving.records import UserRecordView, VisitorRecordView

    if whose is None:
        whose = Whose.session if _SESSION_ID.fullmatch(id_) else Whose.user
    settings = ctx.obj.settings()
    if whose is Whose.user and not settings.identity.enabled:
        raise UsageError("similar: identity.enabled is false, so there are no customers")
    kind = UserRecordView if whose is Whose.user else VisitorRecordView
    with kind(settings, ttl_s=settings.serve.ttl_days * _DAY_S, ready_within_s=timeout) as view:
        document = _document(view, whose, id_, space, count)
    if json:
        print_json(document)
    else:
        print(_text_of(document), flush=True)


def _document(view: RecordView, whose: Whose, id_: str, space: str | None, count: int) -> dict[str, Any]:
    from streamer.serving.exact import most_similar

    key, stored = _found(view, whose, id_)
    live = sorted({each.embedding_space for _, each in view.records.items()})
    if space is not None and space not in live:
        raise UsageError(f"--space {space}: no record is of it, expected one of {', '.join(live)}")
    vector = view.table.vector_of(stored.decoded())
    if vector is None:
        raise NoneSimilarError(f"{whose} {id_}: has no {view.table.vector} to compare")
    if space not in (None, stored.embedding_space):
        raise NoneSimilarError(f"{whose} {id_}: its vector is of the space {stored.embedding_space}")
    found = most_similar(view.records, key, stored.embedding_space, vector, count)
    return {
        whose.value: id_,
        "space": stored.embedding_space,
        "similar": [{**_shown(each.stored, view.table.key), "cosine": each.cosine} for each in found],
    }


def _found(view: RecordView, whose: Whose, id_: str) -> tuple[str, StoredRecord]:
    """The record, and its key in the view. Raises NoneSimilarError."""
    if whose is Whose.session:
        written = id_.encode()
        for key, stored in view.records.items():
            if written in stored.message and stored.decoded()["session_id"] == id_:
                return key, stored
        raise NoneSimilarError(f"session {id_}: is no visitor's latest session, or was erased")
    found = view.get(id_)
    if found is None:
        why = "was erased or withdrawn" if id_ in view.erased else "is unknown, or has been away for too long"
        raise NoneSimilarError(f"{whose} {id_}: {why}")
    return id_, found


def _shown(stored: StoredRecord, key: str) -> dict[str, Any]:
    record = stored.decoded()
    return {name: record[name] for name in (key, "session_id", "closed_at", "top_intent")} | {
        "label": record["intents"][0]["label"] if record["top_intent"] else None
    }


def _text_of(document: dict[str, Any]) -> str:
    if not document["similar"]:
        return "nobody else has a vector of this space"
    return "\n".join(
        f"{each['cosine']:.3f}  {visible(next(iter(each.values())))}  {each['session_id']}"
        f"  {visible(each['label'] or 'no label')}"
        for each in document["similar"]
    )
