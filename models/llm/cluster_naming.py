"""Names for clusters of sessions: a language model says what each is about, from what is typical of it.

The model decides nothing about sessions: clusters are the intents. It sees each cluster's most typical pages
and searches, with their shares, and two examples of how such a group is named. Labels that come out alike are
looked at again, side by side: what tells the two clusters apart? Clusters whose labels stay the same are one
intent. Then each group of near clusters gets a label. Last, the model looks for a cluster's line among those
of others by its label alone: how often it finds it says how well the labels tell clusters apart (after the
intrusion tests of Chang et al. 2009, Reading Tea Leaves).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import msgspec
import numpy as np

from streamer.models.arrays import Int64
from streamer.models.labelling.clusters import (
    Clusters,
    Line,
    Names,
    Profile,
    WordNamer,
    contrast,
    profiles,
    terms_of_clusters,
)
from streamer.models.labelling.gate import DEFAULT_BOUNDS, Bounds, failures, labels_with_ids
from streamer.models.labelling.rendering import Scrub
from streamer.models.labelling.teacher import Estimate
from streamer.models.llm.asking import Asker, answered
from streamer.models.llm.causes import most_often
from streamer.models.llm.dialogue import Question
from streamer.models.llm.drafting import DATA_RULE, NEAR_DUPLICATE, alike, label_problem
from streamer.models.llm.errors import LlmError
from streamer.models.llm.structured_output import AnswerSchema
from streamer.models.queries import words_of

LINES = 12
"""Of a profile, in a question."""
READ_PER_CLUSTER = 2
"""Lines of each cluster that the model looks for by its label."""
_LINES_OF_OTHERS = 3
_CONTRASTED = 5
_MOST_DESCRIPTION = 200
_WANT = (
    "A label says what these visitors want to get done: a verb and what it is about, in 2 to 5 plain words,"
    " as a colleague would say it. No numbers, no codes, no paths, no kinds of pages."
)
_EXAMPLES = (
    'Example 1: the lines /holidays/beach: 41%, /holidays/beach/hotels: 30%, search "all inclusive": 12%,'
    " form_start /book: 9% give"
    ' {"evidence": "/holidays/beach/hotels", "label": "Book a beach holiday",'
    ' "description": "They look for a hotel at the sea and start to book."}.'
    " Example 2: the lines /orders/track: 52%, /help/returns: 33%, login /account: 28%,"
    ' search "where is my parcel": 6% give {"evidence": "/orders/track", "label": "Track an order",'
    ' "description": "They log in to see where their parcel is or to send it back."}.'
)
_FILLERS = frozenset({"a", "an", "the", "my", "your", "for", "of", "to"})


class Named(msgspec.Struct, frozen=True):
    evidence: str
    label: str
    description: str


class ToldApart(msgspec.Struct, frozen=True):
    only_a: str
    only_b: str
    label_a: str
    label_b: str


class GroupName(msgspec.Struct, frozen=True):
    label: str


class Choice(msgspec.Struct, frozen=True):
    line: str


@dataclass(frozen=True)
class LlmNamer:
    """Raises LlmError if it can't name most of the clusters."""

    asker: Asker
    scrub: Scrub
    seed: int
    bounds: Bounds = DEFAULT_BOUNDS

    @property
    def name(self) -> str:
        return f"clusters+llm:{self.asker.model}"

    def names(self, clusters: Clusters) -> Names:
        number = len(clusters.parents)
        profile_of = profiles(clusters, self.scrub, LINES)
        self.asker.expected = self._requests(number, int(clusters.parents.max()) + 1)
        named = self.asker.map(self._named, profile_of)
        if not any(named):
            raise LlmError(f"{self.name} named none of {number} clusters: {self._why()}")
        by_words = WordNamer().names(clusters)
        labels = [each.label if each else by_words.labels[k] for k, each in enumerate(named)]
        said = [each.description if each else by_words.descriptions[k] for k, each in enumerate(named)]
        again = self._told_apart(labels, profile_of)
        return self._checked(clusters, profile_of, labels, said, named.count(None), again)

    def estimate(self, clusters: Clusters) -> Estimate:
        """What naming will cost; asks nothing."""
        shown = [_shown(each) for each in profiles(clusters, self.scrub, LINES)]
        number, groups = len(clusters.parents), int(clusters.parents.max()) + 1
        requests = self._requests(number, groups)
        each = sum(len(text) for text in shown) // (3 * max(1, number))
        return Estimate(requests, requests * (each + 400), tuple(shown[:3]))

    def _why(self) -> str:
        return most_often(self.asker.causes) or (
            "no page and no search occurs in the visits of enough people; expected more sessions"
        )

    def _requests(self, clusters: int, groups: int) -> int:
        """Without questions about labels that come out alike."""
        return clusters + groups + clusters * READ_PER_CLUSTER

    def _named(self, profile: Profile) -> Named | None:
        """None if nothing typical is known of it, or no answer was usable. Labels are published, so they are
        scrubbed too."""
        if not profile.lines:
            return None
        system = (
            "You name what groups of a website's visitors came for. You get the pages and searches that are"
            " most typical of one group, each with the share of the group's visits that have it. First copy"
            f" the line that says most, then give a label, then a sentence of at most 15 words. {_WANT}"
            f" {_EXAMPLES} {DATA_RULE}"
        )
        lines = [line.text for line in profile.lines]
        schema = AnswerSchema(
            "name", Named, lambda found: label_problem(found.label), {(Named, "evidence"): lines}
        )
        found = answered(lambda: self.asker.ask(Question(system, _shown(profile)), schema))
        return found and Named(
            found.evidence,
            _clean(found.label, self.scrub),
            " ".join(self.scrub(found.description).split())[:_MOST_DESCRIPTION],
        )

    def _told_apart(self, labels: list[str], profile_of: Sequence[Profile]) -> int:
        """Looks again at clusters whose labels are alike, and changes their labels; how often it did."""
        looked = 0
        for a, b in combinations(range(len(labels)), 2):
            if alike(labels[a], labels[b]) < NEAR_DUPLICATE:
                continue
            looked += 1
            found = self._difference(labels, a, b, profile_of)
            if found is not None:
                labels[a] = _clean(found.label_a, self.scrub)
                labels[b] = _clean(found.label_b, self.scrub)
        return looked

    def _difference(
        self, labels: Sequence[str], a: int, b: int, profile_of: Sequence[Profile]
    ) -> ToldApart | None:
        of_a, of_b = contrast(profile_of[a], profile_of[b], _CONTRASTED)
        if not of_a or not of_b:
            return None

        def problem(found: ToldApart) -> str | None:
            if _words(found.label_a) == _words(found.label_b):
                return "both labels say the same, expected what tells the groups apart"
            return label_problem(found.label_a) or label_problem(found.label_b)

        system = (
            f'Two groups of a website\'s visitors, A and B, were both called "{labels[a]}". What tells them'
            " apart? First copy a line that only A has and one that only B has, then give each group a label"
            f" of its own. {_WANT} {DATA_RULE}"
        )
        user = f"<session>\nOnly in A:\n{_listed(of_a)}\nOnly in B:\n{_listed(of_b)}\n</session>"
        schema = AnswerSchema(
            "difference",
            ToldApart,
            problem,
            {
                (ToldApart, "only_a"): [line.text for line in of_a],
                (ToldApart, "only_b"): [line.text for line in of_b],
            },
        )
        return answered(lambda: self.asker.ask(Question(system, user), schema))

    def _group_label(self, labels: Sequence[str]) -> str:
        if len(labels) == 1:
            return labels[0]
        system = (
            "These are intents of a website's visitors. Name the section of the website that they belong to,"
            " in 1 to 3 plain words. No numbers, no codes, no paths. Example 1: Book a beach holiday, Find a"
            ' hotel in a city, Rent a holiday flat give {"label": "Holidays"}. Example 2: Track an order,'
            ' Send back shoes, Change an address give {"label": "Orders and returns"}.'
        )
        schema = AnswerSchema("group", GroupName, lambda found: label_problem(found.label))
        user = "\n".join(f"- {label}" for label in labels)
        found = answered(lambda: self.asker.ask(Question(system, user), schema))
        return _clean(found.label, self.scrub) if found else labels[0]

    def _checked(
        self,
        clusters: Clusters,
        profile_of: Sequence[Profile],
        labels: Sequence[str],
        said: Sequence[str],
        unnamed: int,
        looked: int,
    ) -> Names:
        """Clusters of the same label as one intent, labels for groups, and how well the labels hold."""
        first, intent_of = _merged(labels)
        own = [labels[k] for k in first]
        near = clusters.parents[first]
        parent_labels, parents = self._groups(own, near)
        described = [said[k] for k in first]
        read = self._read_back(profile_of, own, intent_of)
        usable = [(found, chance) for found, chance in read if found is not None]
        agree, kappa = _beyond_chance(usable) if usable else (None, None)
        without = (len(read) - len(usable)) / max(1, len(read))
        poor = failures(
            kappa,
            None,
            round(max(without, unnamed / len(labels)), 4),
            labels_with_ids([*own, *parent_labels], clusters.sessions),
            self.bounds,
        )
        notes: dict[str, float | int | str] = {
            "unnamed": unnamed,
            "looked_again": looked,
            "merged": len(labels) - len(own),
            "read_back": len(usable),
            "read_back_without_vote": round(without, 4),
            "requests": self.asker.answers,
            "tokens": self.asker.tokens,
            "asked_again": self.asker.causes.total(),
        }
        if agree is not None and kappa is not None:
            notes |= {"read_back_agree": agree, "read_back_kappa": kappa}
        terms = terms_of_clusters(clusters, intent_of[clusters.labels], len(own))
        return Names(own, described, terms, parents, parent_labels, intent_of, notes, tuple(poor))

    def _groups(self, labels: Sequence[str], near: Int64) -> tuple[list[str], Int64]:
        """Labels of the parents and [I] the parent of each intent; near ones are together."""
        numbers = np.unique(near)
        members = [[labels[i] for i in np.flatnonzero(near == g).tolist()] for g in numbers]
        named = self.asker.map(self._group_label, members)
        first, parent_of = _merged(named)
        return [named[g] for g in first], parent_of[np.searchsorted(numbers, near)]

    def _read_back(
        self, profile_of: Sequence[Profile], labels: Sequence[str], intent_of: Int64
    ) -> list[tuple[bool | None, float]]:
        """Whether the model finds lines of each cluster by its label, None where no answer was usable; and
        how likely chance finds them."""
        rng = np.random.default_rng(self.seed)
        asked = [
            (labels[intent_of[k]], line.text, [line.text, *others])
            for k, profile in enumerate(profile_of)
            for line in profile.lines[:READ_PER_CLUSTER]
            if (others := _lines_of_others(profile_of, intent_of, k, rng))
        ]
        shown = [(label, right, rng.permutation(lines).tolist()) for label, right, lines in asked]
        found = self.asker.map(lambda each: self._found(*each), shown)
        return [(hit, 1 / len(lines)) for hit, (_, _, lines) in zip(found, shown, strict=True)]

    def _found(self, label: str, right: str, lines: Sequence[str]) -> bool | None:
        def problem(found: Choice) -> str | None:
            return None if found.line in lines else "the line isn't in the list, expected one of it"

        system = (
            f'Some visitors of a website came for this: "{label}". Which of these lines is most likely from'
            f" one of their visits? Copy it. {DATA_RULE}"
        )
        schema = AnswerSchema("choice", Choice, problem, {(Choice, "line"): lines})
        question = Question(system, "<session>\n" + "\n".join(lines) + "\n</session>")
        found = answered(lambda: self.asker.ask(question, schema))
        return None if found is None else found.line == right


def _beyond_chance(read: Sequence[tuple[bool, float]]) -> tuple[float, float]:
    """The share that was found, and kappa with the chance of each question."""
    agree, chance = np.mean([found for found, _ in read]), np.mean([chance for _, chance in read])
    return round(float(agree), 4), round(float((agree - chance) / (1 - chance)), 4)


def _lines_of_others(
    profile_of: Sequence[Profile], intent_of: Int64, k: int, rng: np.random.Generator
) -> list[str]:
    """The most typical lines of some clusters of other intents, none of them typical of cluster k."""
    own = {line.text for line in profile_of[k].lines}
    tops = [
        profile_of[j].lines[0].text
        for j in rng.permutation(len(profile_of)).tolist()
        if intent_of[j] != intent_of[k] and profile_of[j].lines
    ]
    return [text for text in dict.fromkeys(tops) if text not in own][:_LINES_OF_OTHERS]


def _merged(labels: Sequence[str]) -> tuple[list[int], Int64]:
    """Of labels of the same words the first one's place, and [K] which of these each label is."""
    first: list[int] = []
    found = []
    for k, label in enumerate(labels):
        same = (n for n, f in enumerate(first) if _words(labels[f]) == _words(label))
        number = next(same, len(first))
        if number == len(first):
            first.append(k)
        found.append(number)
    return first, np.array(found, np.int64)


def _words(label: str) -> frozenset[str]:
    """Of a label, in any order, without those that tell nothing apart."""
    return frozenset(words_of(label)) - _FILLERS


def _shown(profile: Profile) -> str:
    """A profile as the model sees it; its texts have no `<` of their own."""
    return f"<session>\n{_listed(profile.lines)}\n</session>"


def _listed(lines: Sequence[Line]) -> str:
    return "\n".join(f"{line.text}: {line.share:.0%}" for line in lines)


def _clean(label: str, scrub: Scrub) -> str:
    """As it is published: scrubbed, one line, an upper-case letter first, no full stop at the end."""
    said = " ".join(scrub(label).split()).rstrip(".")
    return said[:1].upper() + said[1:]
