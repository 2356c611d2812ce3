"""Labels with evidence: which intents a session shows, each after a line of it that shows it.

Several votes, with the intents in another order each time, make a soft label: a session with two intents
has mass on both. A vote for `other` says that none fits. Where the endpoint keeps to a schema it can name no
line that a session hasn't and no intent that doesn't exist; both are checked here all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from streamer.models.arrays import Float32
from streamer.models.labelling.rendering import quotes
from streamer.models.labelling.teacher import OTHER, Vote
from streamer.models.llm.asking import Asker, answered
from streamer.models.llm.config import LlmConfig
from streamer.models.llm.dialogue import Question
from streamer.models.llm.drafting import DATA_RULE, exactly, marked
from streamer.models.llm.structured_output import AnswerSchema

MOST_INTENTS = 2
_FIRST, _SECOND = 2 / 3, 1 / 3
"""Mass of a vote's first and second intent."""

_SYSTEM = (
    f"You tell what visitors of a website came for. {DATA_RULE} For each session name the intent that it"
    f" shows, by its id from the list, and a second one only if the visitor clearly had two, the stronger"
    f" first. For each intent copy, before you name it, the line of the session that shows it. If none fits,"
    f" the only intent is `{OTHER}`, with the line that comes nearest."
)


class Chosen(msgspec.Struct, frozen=True):
    evidence: str
    intent: str


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


@dataclass
class Evidence:
    """How often what a model gave as evidence stands in the session, in all answers of the right form."""

    given: int = 0
    found: int = 0

    @property
    def precision(self) -> float | None:
        return round(self.found / self.given, 4) if self.given else None


def votes(
    asker: Asker,
    choices: IntentChoices,
    renderings: Sequence[str],
    count: int,
    evidence: Evidence | None = None,
) -> list[list[Vote]]:
    """Per session the votes that were usable: at most `count`; `evidence` counts along."""
    size = asker.config.sessions_per_label
    counted = evidence or Evidence()
    jobs = [(at, number) for at in range(0, len(renderings), size) for number in range(count)]
    asker.prefetch(
        _question(asker.config, choices, renderings[at : at + size], number) for at, number in jobs
    )
    found = asker.map(
        lambda job: _vote(asker, choices, renderings[job[0] : job[0] + size], job[1], counted), jobs
    )
    result: list[list[Vote]] = [[] for _ in renderings]
    for (at, _), cast in zip(jobs, found, strict=True):
        for offset, vote in enumerate(cast):
            if vote:
                result[at + offset].append(vote)
    return result


def _vote(
    asker: Asker, choices: IntentChoices, renderings: Sequence[str], number: int, evidence: Evidence
) -> list[Vote | None]:
    """One vote on a few sessions; those that stay unusable together are asked one by one."""
    question, schema = _question(asker.config, choices, renderings, number)
    rendered = _by_id(renderings)

    def check(found: Assignment) -> str | None:
        _count_evidence(found, rendered, evidence)
        return schema.check(found)

    found = answered(lambda: asker.ask(question, replace(schema, check=check)))
    if found is not None:
        by_id = {each.id: _vote_of(each) for each in found.sessions}
        return [by_id[i] for i in rendered]
    if len(renderings) == 1:
        return [None]
    return [vote for each in renderings for vote in _vote(asker, choices, [each], number, evidence)]


def _question(
    config: LlmConfig, choices: IntentChoices, renderings: Sequence[str], number: int
) -> tuple[Question, AnswerSchema[Assignment]]:
    rendered = _by_id(renderings)
    order = np.random.default_rng(number).permutation(len(choices.described)).tolist()
    schema = AnswerSchema(
        "labels",
        Assignment,
        lambda found: problem(found, choices, rendered),
        {
            (Assigned, "id"): list(rendered),
            (Chosen, "evidence"): _clicks_of(renderings),
            (Chosen, "intent"): [*choices.described, OTHER],
        },
    )
    question = Question(
        _SYSTEM,
        choices.listed(order) + marked(renderings, list(rendered)),
        config.temperature if number else 0.0,
        number,
    )
    return question, schema


def _by_id(renderings: Sequence[str]) -> dict[str, str]:
    return {f"s{i + 1}": text for i, text in enumerate(renderings)}


def _clicks_of(renderings: Sequence[str]) -> list[str]:
    """Lines that can be evidence: without the heading, which says nothing about intent."""
    return [line for each in renderings for line in each.splitlines()[1:] or [each]]


def _count_evidence(found: Assignment, rendered: Mapping[str, str], evidence: Evidence) -> None:
    """Called from several threads; each addition is one of the interpreter's steps."""
    for each in found.sessions:
        for chosen in each.intents if each.id in rendered else ():
            evidence.given += 1
            evidence.found += quotes(chosen.evidence, rendered[each.id])


def _vote_of(each: Assigned) -> Vote:
    """The first two intents; `other` counts only if it is named first."""
    named = list(dict.fromkeys(chosen.intent for chosen in each.intents))
    return (OTHER,) if named[0] == OTHER else tuple(i for i in named if i != OTHER)[:MOST_INTENTS]


def problem(found: Assignment, choices: IntentChoices, rendered: Mapping[str, str]) -> str | None:
    """What is wrong with an answer, if anything: ids, intents, evidence."""
    wrong = exactly(list(rendered), (each.id for each in found.sessions))
    if wrong:
        return wrong
    for each in found.sessions:
        if not each.intents:
            return f"session {each.id} has no intent, expected 1 to {MOST_INTENTS}"
        if any(chosen.intent not in (*choices.described, OTHER) for chosen in each.intents):
            return f"session {each.id} has an intent that isn't in the list; expected its id from the list"
        shown = [chosen.evidence for chosen in each.intents if chosen.intent != OTHER]
        if not all(quotes(line, rendered[each.id]) for line in shown):
            return f"session {each.id} has evidence that isn't in it; expected a line copied from it"
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
