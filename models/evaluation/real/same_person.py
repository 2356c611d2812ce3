"""catchme150: are two sessions the same person's, of people whom nothing was learnt of? By AUC, no labels.

Pairs of sessions are scored by the cosine of what stands for each: the sites visited, by hand, or an
embedding around the mean of those learnt from. Each person has up to SESSIONS sessions of two clicks or more,
on as many days, for sessions of one day are alike whoever it is, and no person shall outweigh the others.
N sessions, B pairs, S seeds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from streamer.models.arrays import Float64, Int64
from streamer.models.evaluation.bootstrap import Resampled, cluster_numbers, interval
from streamer.models.evaluation.probe.intervals import ScoredDraw, auc
from streamer.models.evaluation.real.clickstreams import click_of, embedded, read, session_of
from streamer.models.evaluation.real.few_labels import RESAMPLED, Part, stored_encoder
from streamer.models.evaluation.result_store import ResultStore
from streamer.models.sphere import Sphere
from streamer.models.training.config import TrainConfig
from streamer.schemas.click import Click, Session

SESSIONS = 10
"""Of a person, at most."""
GAP_MS = 1_800_000
"""Between two clicks of a session, inclusive: the product's default."""
BY_HAND = "sites by hand"
AVERAGED = "sites averaged with embedding"
_DAY_MS = 86_400_000
_CHUNK = 50


def evaluate(
    folder: Path,
    part: Part,
    recipes: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    store: ResultStore,
) -> dict[str, Any]:
    """AUC of every contender, and what each gains over the sites by hand.

    `recipes` are settings of encoders by name.
    """
    sessions = sessions_of_people(folder)
    learnt = [session for session in sessions if part.learns(session.visitor_id)]
    asked = _drawn([session for session in sessions if part.tests(session.visitor_id)])
    people = cluster_numbers([session.visitor_id for session in asked])
    one, other = np.triu_indices(len(asked), k=1)
    pairs = people[one], people[other]

    def cosines(unit_vectors: Float64) -> Float64:
        found: Float64 = (unit_vectors @ unit_vectors.T)[one, other]
        return found

    by_hand = cosines(_sites(learnt, asked))
    resampled = {BY_HAND: _resampled([by_hand], *pairs)}
    for name, settings in recipes.items():
        of_seeds: list[Float64] = []
        for seed in seeds:
            config = TrainConfig(seed=seed, **settings)
            encoder, _, tokenizer = stored_encoder("catchme150", sessions, part, config, store)
            known = embedded(encoder, tokenizer, learnt, config.threads)
            vectors = embedded(encoder, tokenizer, asked, config.threads)
            sphere = Sphere.of(known.astype(np.float32))
            of_seeds.append(cosines(sphere.project(vectors.astype(np.float32)).astype(np.float64)))
        resampled[name] = _resampled(of_seeds, *pairs)
        averaged = [(by_hand + each) / 2.0 for each in of_seeds]
        resampled[f"{AVERAGED}: {name}"] = _resampled(averaged, *pairs)
    floor = resampled[BY_HAND]
    return {
        "rows": {"people": int(people.max()) + 1, "sessions": len(asked), "pairs": len(one)},
        "seeds": len(seeds),
        "auc": {name: each.estimate().as_dict() for name, each in resampled.items()},
        "gain_over_hand": {
            name: interval(each.value - floor.value, each.draws - floor.draws).as_dict()
            for name, each in resampled.items()
            if name != BY_HAND
        },
    }


def sessions_of_people(folder: Path) -> list[Session]:
    by_person: dict[str, list[Click]] = defaultdict(list)
    for event in read(folder, "catchme150.events"):
        by_person[event["visitor_id"]].append(click_of(event))
    return [session for person, clicks in by_person.items() for session in _cut(person, clicks)]


def _cut(person: str, clicks: Sequence[Click]) -> list[Session]:
    stamps = np.array([click.timestamp for click in clicks])
    begins = [0, *(np.flatnonzero(np.diff(stamps) > GAP_MS) + 1).tolist()]
    return [
        session_of(person, clicks[begin:end])
        for begin, end in zip(begins, [*begins[1:], len(clicks)], strict=True)
    ]


def _drawn(sessions: Sequence[Session]) -> list[Session]:
    """One a day, of at most SESSIONS days a person, at random."""
    rng = np.random.default_rng(0)
    of_person: dict[str, dict[int, Session]] = defaultdict(dict)
    for place in rng.permutation(len(sessions)).tolist():
        session = sessions[place]
        days = of_person[session.visitor_id]
        if session.event_count > 1 and len(days) < SESSIONS:
            days.setdefault(session.started_at // _DAY_MS, session)
    return [session for days in of_person.values() for session in days.values()]


def _sites(learnt: Sequence[Session], asked: Sequence[Session]) -> Float64:
    """[N, sites]: logs of counts, rare sites weigh more, of length 1."""
    weighing = TfidfVectorizer(analyzer=_names, sublinear_tf=True, min_df=2).fit(learnt)
    found: Float64 = weighing.transform(asked).toarray()
    return found


def _names(session: Session) -> list[str]:
    return [str(click.page_type) for click in session.clicks]


def _resampled(of_seeds: Sequence[Float64], one: Int64, other: Int64) -> Resampled:
    """Of the scores [S][B] of pairs: under draws of people, and of seeds, the same for all contenders."""
    rng = np.random.default_rng(0)
    people, same = int(other.max()) + 1, one == other
    times = rng.multinomial(people, np.full(people, 1.0 / people), size=RESAMPLED).astype(np.float64)
    seeds = rng.random((RESAMPLED, len(of_seeds)))
    tested = [
        ScoredDraw(np.arange(len(one)), same.astype(np.int64), np.stack([np.zeros(len(one)), each], axis=1))
        for each in of_seeds
    ]
    draws = np.empty((RESAMPLED, len(of_seeds)))
    for start in range(0, RESAMPLED, _CHUNK):
        drawn = times[start : start + _CHUNK]
        # Somebody drawn twice is still one person: no session of theirs is paired with its own copy.
        weights = np.where(same, drawn[:, one], drawn[:, one] * drawn[:, other])
        for seed, each in enumerate(tested):
            draws[start : start + _CHUNK, seed] = auc(each, weights)
    chosen = (seeds * len(of_seeds)).astype(np.int64)
    value = np.mean([auc(each, np.ones((1, len(one))))[0] for each in tested])
    return Resampled(float(value), np.take_along_axis(draws, chosen, axis=1).mean(axis=1))
