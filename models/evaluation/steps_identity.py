"""Is a customer's record right? Attribution of simulated sessions beside the truth, by how far ties reach.

People have several browsers, some of which they share; some of the links are wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np

from streamer.models.evaluation.bootstrap import cluster_numbers, resample
from streamer.models.evaluation.experiment import Experiment, Json
from streamer.models.evaluation.household_data import HouseholdData, IdentityStages, household_data
from streamer.models.evaluation.metrics import Measured, share_of
from streamer.models.evaluation.task_rows import DAY_MS

LOOKBACK_DAYS = (1.0, 7.0, 30.0)
WRONG_LINKS = (0.0, 0.03, 0.15)
SHARING = 0.2
"""People who have a browser in common with another customer."""

METRICS = ("precision", "recall", "recall_without_login")
KINDS = ("login_right", "login_wrong", "login_two", "link_right", "link_wrong", "link_two", "nobody")
"""Sessions of people by how they were attributed and whether rightly; `two`: two customers' clicks in one."""

Attributed = Mapping[str, tuple[str, str]]
"""By session id: customer, and `login` or `link`."""


class UnfoundedError(AssertionError):
    """A session is in the record of a customer whom its visitor's ties don't name, or not alone."""


def attribution(experiment: Experiment, stages: IdentityStages) -> Json:
    """Precision and recall of attribution, per lookback and share of wrong links. Of the first seed."""
    seed, draws = experiment.scale.seeds[0], experiment.scale.draws
    config = {
        **experiment.of_seed(seed),
        "draws": draws,
        "sharing": SHARING,
        "wrong_links": list(WRONG_LINKS),
        "lookback_days": list(LOOKBACK_DAYS),
    }

    def compute() -> Json:
        simulator = experiment.simulator(seed)
        data = household_data(simulator, SHARING, experiment.cut, stages, experiment.store.cache)
        clusters = cluster_numbers(["".join(sorted(owners)) for owners in data.owners])
        rows = []
        for wrong in WRONG_LINKS:
            linked = data.with_links(seed, SHARING, wrong)
            for days in LOOKBACK_DAYS:
                found = stages.attributed(linked.scored, linked.links, days)
                require_founded(linked, found, days)
                drawn = resample(judged(linked, found), clusters, np.random.default_rng(seed), draws)
                rows.append(
                    {
                        "wrong_links": wrong,
                        "lookback_days": days,
                        **{name: each.estimate().as_dict() for name, each in drawn.items()},
                        "sessions": {kind: kinds(linked, found)[kind] for kind in KINDS},
                    }
                )
        return {"rows": rows}

    return experiment.store.result("attribution", config, compute)


def named_by_ties(data: HouseholdData, lookback_days: float) -> list[set[str]]:
    """[S]: every customer whom a session's own clicks, or else the ties of its visitor in reach, name."""
    ties: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for link in data.links:
        ties[link["visitor_id"]].append((link["timestamp"], link["user_id"]))
    for session in data.sessions:
        if session.user_id is not None and not session.is_bot:
            ties[session.visitor_id].append((session.closed_at, session.user_id))
    reach_ms = round(lookback_days * DAY_MS)
    return [
        {session.user_id}
        if session.user_id is not None
        else {user for at, user in ties[session.visitor_id] if abs(at - session.closed_at) <= reach_ms}
        for session in data.sessions
    ]


def require_founded(data: HouseholdData, attributed: Attributed, lookback_days: float) -> None:
    """Raises UnfoundedError unless the ties name the customer of each attributed session, and nobody else."""
    for session, named in zip(data.sessions, named_by_ties(data, lookback_days), strict=True):
        found = attributed.get(session.session_id)
        if found is not None and (session.is_bot or named != {found[0]}):
            raise UnfoundedError(
                f"session {session.session_id} is in a customer's record by {found[1]}, and its ties name"
                f" {len(named)} customers; expected that one alone"
            )


def judged(data: HouseholdData, attributed: Attributed) -> dict[str, Measured]:
    """Precision: of the sessions in a record, those whose clicks are all of that customer. Recall: of the
    sessions of app users alone, those in their record; also of those without a login."""
    numbers = np.zeros((len(data.sessions), 3, 2))
    app_users = data.app_users
    for row, (session, owners) in enumerate(zip(data.sessions, data.owners, strict=True)):
        found = attributed.get(session.session_id)
        is_right = found is not None and owners == {found[0]}
        numbers[row, 0] = (is_right, found is not None)
        if len(owners) == 1 and owners <= app_users:
            numbers[row, 1] = (is_right, True)
            if session.user_id is None:
                numbers[row, 2] = (is_right, True)
    return {name: share_of(numbers[:, place]) for place, name in enumerate(METRICS)}


def kinds(data: HouseholdData, attributed: Attributed) -> Counter[str]:
    """Numbers of sessions, by KINDS."""
    counts: Counter[str] = Counter()
    for session, owners in zip(data.sessions, data.owners, strict=True):
        found = attributed.get(session.session_id)
        if not owners:
            continue
        if found is None:
            counts["nobody"] += 1
        elif len(owners) > 1:
            counts[f"{found[1]}_two"] += 1
        else:
            counts[f"{found[1]}_right" if found[0] in owners else f"{found[1]}_wrong"] += 1
    return counts
