"""The taxonomy: two levels of intents, in a file that people can read, edit and diff.

Ids are frozen: an id is never given to another intent, and one that went out of use stays `retired`.
Labels and descriptions may be edited. `mapping` says what became of the previous version's intents.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

FORMAT: Final = 1
MAX_INTENTS = 1000

_SAME_TERMS = 0.34
"""Jaccard similarity of terms from which on a new intent continues an old one."""


class Parent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    label: str


class Intent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    label: str
    parent: str
    """Id of a Parent."""
    description: str = ""
    terms: tuple[str, ...] = ()
    """Distinctive terms of its sessions, best first."""


class Mapped(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    previous: str
    current: str | None
    """None: no intent continues it."""


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What people have changed since the teacher made the taxonomy, at one time."""

    at: str
    """UTC, as 2026-11-30T09:30:00Z"""
    by: str
    what: tuple[str, ...]


class Taxonomy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`intents` are in the order of the classifier's outputs."""

    format: int
    version: str
    teacher: str
    """Who made it: `keyless`, or the language model's name."""
    parents: tuple[Parent, ...]
    intents: tuple[Intent, ...]
    retired: tuple[str, ...] = ()
    mapping: tuple[Mapped, ...] = ()
    edits: tuple[Edit, ...] = ()
    """Oldest first; left out of the file where there are none."""


def entries(taxonomy: Taxonomy) -> list[Parent | Intent]:
    """Parents, then intents."""
    return [*taxonomy.parents, *taxonomy.intents]


def to_json(taxonomy: Taxonomy) -> str:
    """Canonical: the same taxonomy always gives the same bytes."""
    document = msgspec.to_builtins(taxonomy)
    if not taxonomy.edits:
        del document["edits"]
    return json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def from_json(text: str | bytes) -> Taxonomy:
    """Raises ValueError with a reason for anything that isn't a consistent taxonomy."""
    try:
        taxonomy = msgspec.json.decode(text, type=Taxonomy)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"taxonomy can't be read: {error}") from None
    problem = _problem(taxonomy)
    if problem:
        raise ValueError(f"taxonomy: {problem}")
    return taxonomy


def _problem(taxonomy: Taxonomy) -> str | None:
    ids = [entry.id for entry in entries(taxonomy)]
    if taxonomy.format != FORMAT:
        return f"format is {taxonomy.format}, expected {FORMAT}"
    if not taxonomy.version:
        return "version is empty"
    if not 1 <= len(taxonomy.intents) <= MAX_INTENTS:
        return f"it has {len(taxonomy.intents)} intents, expected 1 to {MAX_INTENTS}"
    if not all(ids) or not all(entry.label for entry in entries(taxonomy)):
        return "an id or a label is empty"
    repeated = sorted({i for i in ids if ids.count(i) > 1})
    if repeated:
        return f"id {repeated[0]!r} is used twice, expected every id once"
    reused = sorted(set(taxonomy.retired) & set(ids))
    if reused:
        return f"id {reused[0]!r} is retired, but in use"
    known = {parent.id for parent in taxonomy.parents}
    orphan = next((intent for intent in taxonomy.intents if intent.parent not in known), None)
    if orphan:
        return f"intent {orphan.id!r} has the parent {orphan.parent!r}, which doesn't exist"
    return None


def carried_over(new: Taxonomy, previous: Taxonomy, successors: dict[str, str]) -> Taxonomy:
    """`new` as the version after `previous`; `successors` maps new ids to the previous ids they continue.

    Intents keep the ids that they continue; every other new id differs from all that ever existed.
    """
    taken = {e.id for e in entries(previous)} | set(previous.retired)
    renamed: dict[str, str] = {}
    for entry in entries(new):
        kept = successors.get(entry.id)
        renamed[entry.id] = kept if kept is not None else unused_id(entry.id, taken)
        taken.add(renamed[entry.id])
    current = set(renamed.values())
    out_of_use = {e.id for e in entries(previous)} - current
    fields: dict[str, Any] = {
        "version": next_version(previous.version),
        "parents": tuple(msgspec.structs.replace(p, id=renamed[p.id]) for p in new.parents),
        "intents": tuple(
            msgspec.structs.replace(i, id=renamed[i.id], parent=renamed[i.parent]) for i in new.intents
        ),
        "retired": tuple(sorted(set(previous.retired) | out_of_use)),
        "mapping": tuple(
            Mapped(previous=i.id, current=i.id if i.id in current else None) for i in previous.intents
        ),
    }
    return msgspec.structs.replace(new, **fields)


def next_version(version: str) -> str:
    return str(int(version) + 1) if version.isdigit() else f"{version}.1"


def unused_id(wanted: str, taken: set[str]) -> str:
    """`wanted`, or `wanted-2`, `wanted-3`, ... whichever isn't taken."""
    candidate, number = wanted, 1
    while candidate in taken:
        number += 1
        candidate = f"{wanted}-{number}"
    return candidate


def successors(new: Taxonomy, previous: Taxonomy) -> dict[str, str]:
    """New ids to the previous ids that they continue, one to one: by label, then by terms, best match first.

    A parent continues the one that most of its intents belonged to.
    """
    pairs = sorted((-_alike(a.terms, b.terms), a.id, b.id) for a in new.intents for b in previous.intents)
    found = _same_labels(new, previous)
    for alike, new_id, old_id in pairs:
        if -alike >= _SAME_TERMS and new_id not in found and old_id not in found.values():
            found[new_id] = old_id
    old_parent = {intent.id: intent.parent for intent in previous.intents}
    for parent in new.parents:
        votes = [old_parent[found[i.id]] for i in new.intents if i.parent == parent.id and i.id in found]
        best = max(sorted(set(votes)), key=votes.count, default=None)
        if best is not None and best not in found.values():
            found[parent.id] = best
    return found


def _same_labels(new: Taxonomy, previous: Taxonomy) -> dict[str, str]:
    """Labels of the same words; in which order depends on little where they are words of pages."""
    by_words = {_words_of(intent): intent.id for intent in previous.intents}
    same: dict[str, str] = {}
    for intent in new.intents:
        old = by_words.get(_words_of(intent))
        if old is not None and old not in same.values():
            same[intent.id] = old
    return same


def _words_of(intent: Intent) -> frozenset[str]:
    return frozenset(intent.label.casefold().split())


def _alike(a: tuple[str, ...], b: tuple[str, ...]) -> float:
    union = set(a) | set(b)
    return len(set(a) & set(b)) / len(union) if union else 0.0
