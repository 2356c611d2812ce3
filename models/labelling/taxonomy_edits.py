"""Edits that people make of a taxonomy before it is distilled: rename, move, merge, split, retire.

Each gives a new taxonomy and leaves the old one as it is. The id of what goes out of use is retired, so that
it never comes back with another meaning; `mapping` says which intent continues it. A parent without intents
goes out of use, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from streamer.models.labelling.naming import slugs
from streamer.models.taxonomy import MAX_INTENTS, Intent, Mapped, Parent, Taxonomy, entries

MAX_CHARACTERS = 200
"""Of a label or a description."""


class RefusedEditError(Exception):
    """The text says why, and what was expected."""


def rename(taxonomy: Taxonomy, id_: str, label: str, description: str | None = None) -> Taxonomy:
    """Of an intent or a parent, which has no description. None: the description stays."""
    label = _checked(label, "label")
    if not label:
        raise RefusedEditError("a label is empty, expected a name that people understand")
    if id_ in {parent.id for parent in taxonomy.parents}:
        parents = tuple(replace(p, label=label) if p.id == id_ else p for p in taxonomy.parents)
        return replace(taxonomy, parents=parents)
    changed: dict[str, Any] = {"label": label}
    if description is not None:
        changed["description"] = _checked(description, "description")
    return _with_intent(taxonomy, replace(intent_of(taxonomy, id_), **changed))


def move(taxonomy: Taxonomy, id_: str, parent: str) -> Taxonomy:
    """To another parent."""
    if parent not in {each.id for each in taxonomy.parents}:
        raise RefusedEditError(f"{parent!r} is no parent of this taxonomy")
    return _tidied(taxonomy, _with_intent(taxonomy, replace(intent_of(taxonomy, id_), parent=parent)))


def move_to_new_parent(taxonomy: Taxonomy, id_: str, label: str) -> Taxonomy:
    """To a parent that is made for it."""
    (parent,) = slugs([label], _ever_used(taxonomy))
    grown = replace(taxonomy, parents=(*taxonomy.parents, Parent(parent, label)))
    return move(rename(grown, parent, label), id_, parent)


def merge(taxonomy: Taxonomy, gone: str, into: str) -> Taxonomy:
    """One intent of two: `into` goes on and has the sessions of both."""
    if gone == into:
        raise RefusedEditError(f"{gone!r} can't be merged into itself")
    return _without(taxonomy, gone, intent_of(taxonomy, into).id)


def split(
    taxonomy: Taxonomy, whole: str, labels: tuple[str, str], terms: Sequence[Sequence[str]]
) -> tuple[Taxonomy, tuple[str, str]]:
    """Two new intents at the place of `whole`, and their ids; the first label is that of the first part."""
    found = intent_of(taxonomy, whole)
    if len(taxonomy.intents) == MAX_INTENTS:
        raise RefusedEditError(f"a taxonomy has at most {MAX_INTENTS} intents")
    one, two = slugs(labels, _ever_used(taxonomy))
    parts = [Intent(i, i, found.parent, terms=tuple(of)) for i, of in zip((one, two), terms, strict=True)]
    at = taxonomy.intents.index(found)
    grown = replace(taxonomy, intents=(*taxonomy.intents[:at], *parts, *taxonomy.intents[at:]))
    divided = _without(grown, whole, None)
    for id_, label in zip((one, two), labels, strict=True):
        divided = rename(divided, id_, label)
    return divided, (one, two)


def retire(taxonomy: Taxonomy, id_: str) -> Taxonomy:
    """Its sessions are left out."""
    return _without(taxonomy, id_, None)


def intent_of(taxonomy: Taxonomy, id_: str) -> Intent:
    """Raises RefusedEditError."""
    for intent in taxonomy.intents:
        if intent.id == id_:
            return intent
    raise RefusedEditError(f"{id_!r} is no intent of this taxonomy (any more)")


def _without(taxonomy: Taxonomy, gone: str, successor: str | None) -> Taxonomy:
    intent = intent_of(taxonomy, gone)
    if len(taxonomy.intents) == 1:
        raise RefusedEditError(f"{intent.label!r} is the only intent, and a taxonomy needs one")
    mapping = (replace(m, current=successor) if m.current == gone else m for m in taxonomy.mapping)
    left = replace(
        taxonomy,
        intents=tuple(each for each in taxonomy.intents if each.id != gone),
        retired=tuple(sorted({*taxonomy.retired, gone})),
        mapping=(*(m for m in mapping if m.previous != gone), Mapped(gone, successor)),
    )
    return _tidied(taxonomy, left)


def _tidied(before: Taxonomy, after: Taxonomy) -> Taxonomy:
    """Without the parents that had intents before and have none now."""
    emptied = {intent.parent for intent in before.intents} - {intent.parent for intent in after.intents}
    if not emptied:
        return after
    return replace(
        after,
        parents=tuple(parent for parent in after.parents if parent.id not in emptied),
        retired=tuple(sorted({*after.retired, *emptied})),
    )


def _with_intent(taxonomy: Taxonomy, changed: Intent) -> Taxonomy:
    return replace(taxonomy, intents=tuple(changed if i.id == changed.id else i for i in taxonomy.intents))


def _ever_used(taxonomy: Taxonomy) -> set[str]:
    mapped = {mapped.previous for mapped in taxonomy.mapping}
    return {entry.id for entry in entries(taxonomy)} | set(taxonomy.retired) | mapped


def _checked(text: str, what: str) -> str:
    plain = " ".join(text.split())
    if len(plain) > MAX_CHARACTERS or not plain.isprintable():
        raise RefusedEditError(
            f"a {what} has {len(plain)} characters, expected at most {MAX_CHARACTERS}, all printable"
        )
    return plain
