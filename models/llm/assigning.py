"""Labels with evidence: which intents a session shows, each with a quote that must stand in it.

Several votes, with the intents in another order each time, make a soft label: a session with two intents
has mass on both. A vote for `other` says that none fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from models.arrays import Float32
from models.labelling.rendering import quotes
from models.labelling.teacher import OTHER, Vote
from models.llm.asking import Asker, Question, answered
from models.llm.drafting import DATA_RULE, exactly, marked
from models.llm.structured_output import AnswerSchema

MOST_INTENTS = 2
_FIRST, _SECOND = 2 / 3, 1 / 3
"""Mass of a vote's first and second intent."""
_VOTE_TEMPERATURE = 0.7


_SYSTEM = (
    f"You tell what visitors of a website came for. {DATA_RULE} For each session name the intent that it"
    f" shows, by its id from the list, and a second one only if the visitor clearly had two, the stronger"
    f" first. For each intent quote a few words of the session that show it, copied exactly. If none fits,"
    f" the only intent is `{OTHER}`, with an empty quote."
)


class Chosen(msgspec.Struct, frozen=True):
    intent: str
    quote: str


class Assigned(msgspec.Struct, frozen=True):
    id: str
    intents: list[Chosen]


class Assignment(msgspec.Struct, frozen=True):
    sessions: list[Assigned]


@dataclass(frozen=True)
class IntentChoices:
    """The intents to choose from, by id."""

    described: Mapping[str, str]
    """Id to label and description."""

    def listed(self, order: Sequence[int]) -> str:
        items = list(self.described.items())
        lines = [f"- {items[i][0]}: {items[i][1]}" for i in order]
        return "<intents>\n" + "\n".join([*lines, f"- {OTHER}: none of these"]) + "\n</intents>\n"


def votes(
    asker: Asker, choices: IntentChoices, renderings: Sequence[str], count: int, first: int = 0
) -> list[list[Vote]]:
    """Per session the votes that were usable: at most `count`, numbered from `first`."""
    size = asker.config.sessions_per_label
    jobs = [(at, number) for at in range(0, len(renderings), size) for number in range(first, first + count)]
    found = asker.map(lambda job: _vote(asker, choices, renderings[job[0] : job[0] + size], job[1]), jobs)
    result: list[list[Vote]] = [[] for _ in renderings]
    for (at, _), cast in zip(jobs, found, strict=True):
        for offset, vote in enumerate(cast):
            if vote:
                result[at + offset].append(vote)
    return result


def _vote(asker: Asker, choices: IntentChoices, renderings: Sequence[str], number: int) -> list[Vote | None]:
    """One vote on a few sessions; those that stay unusable together are asked one by one."""
    ids = [f"s{i + 1}" for i in range(len(renderings))]
    order = np.random.default_rng(number).permutation(len(choices.described)).tolist()
    schema = AnswerSchema(
        "labels", Assignment, lambda found: problem(found, choices, dict(zip(ids, renderings, strict=True)))
    )
    question = Question(
        _SYSTEM, choices.listed(order) + marked(renderings, ids), _VOTE_TEMPERATURE if number else 0.0, number
    )
    found = answered(lambda: asker.ask(question, schema))
    if found is not None:
        by_id = {each.id: tuple(chosen.intent for chosen in each.intents) for each in found.sessions}
        return [by_id[i] for i in ids]
    if len(renderings) == 1:
        return [None]
    return [vote for each in renderings for vote in _vote(asker, choices, [each], number)]


def problem(found: Assignment, choices: IntentChoices, rendered: Mapping[str, str]) -> str | None:
    """What is wrong with an answer, if anything: ids, intents, quotes."""
    wrong = exactly(list(rendered), (each.id for each in found.sessions))
    if wrong:
        return wrong
    for each in found.sessions:
        named = [chosen.intent for chosen in each.intents]
        if not 1 <= len(named) <= MOST_INTENTS or len(set(named)) < len(named):
            return f"session {each.id} has {len(named)} intents, expected 1 to {MOST_INTENTS} different ones"
        if OTHER in named:
            if len(named) > 1:
                return f"session {each.id} has `{OTHER}` and an intent, expected one or the other"
            continue
        if any(intent not in choices.described for intent in named):
            return f"session {each.id} has an intent that isn't in the list; expected its id from the list"
        if not all(quotes(chosen.quote, rendered[each.id]) for chosen in each.intents):
            return f"session {each.id} has a quote that isn't in it; expected words copied from it"
    return None


def soft_label(cast: Sequence[Vote], ids: Sequence[str]) -> Float32 | None:
    """[K]: the votes' mass over the intents; None if most votes are for `other`, or there is none."""
    mass = np.zeros(len(ids), np.float32)
    named = [vote for vote in cast if vote != (OTHER,)]
    if 2 * len(named) <= len(cast):
        return None
    place = {intent: k for k, intent in enumerate(ids)}
    for vote in named:
        shares = (1.0,) if len(vote) == 1 else (_FIRST, _SECOND)
        for intent, share in zip(vote, shares, strict=True):
            mass[place[intent]] += share
    result: Float32 = mass / mass.sum()
    return result
