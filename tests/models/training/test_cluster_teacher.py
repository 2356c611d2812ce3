from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamer.models.labelling.teacher import TeacherInput
from streamer.models.training.cluster_teacher import ClusterTeacher
from streamer.models.training.config import TrainConfig
from tests.models.hand_made import a_click, a_session

ABOUT = ("/loans/car", "/cards/gold", "/save/deposit")
SESSIONS, LOGIN = 600, 1.5


def given() -> TeacherInput:
    """Sessions about three things, half of them with a login, which moves an embedding by LOGIN."""
    rng = np.random.default_rng(0)
    about, logged_in = rng.integers(len(ABOUT), size=SESSIONS), rng.random(SESSIONS) < 0.5
    embeddings = np.eye(8)[about] + 0.05 * rng.normal(size=(SESSIONS, 8))
    embeddings[:, 7] += LOGIN * logged_in
    sessions = []
    for number, (topic, user) in enumerate(zip(about.tolist(), logged_in.tolist(), strict=True)):
        clicks = [a_click(at * 1_000, path=ABOUT[topic]) for at in range(3)]
        session = a_session(*clicks, visitor_id=f"v{number}")
        sessions.append(replace(session, user_id="u" if user else None))
    return TeacherInput(sessions, embeddings.astype(np.float32))


def test_intents_do_not_tell_who_logs_in() -> None:
    taught = given()
    output = ClusterTeacher(TrainConfig(max_intents=8), seed=1).teach(taught, taught, None)
    assert len(output.taxonomy.intents) == len(ABOUT)
