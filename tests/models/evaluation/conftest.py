"""What the tests of households share."""

from __future__ import annotations

import pytest

from streamer.identity.rules import IdentityRules
from streamer.models.bundle import default_bundle, load_bundle
from streamer.replay.identities import Identities
from tests.models.evaluation.sessions_of_people import RULES


@pytest.fixture(scope="session")
def stages() -> Identities:
    """Both identity stages, with the shipped bundle."""
    return Identities(load_bundle(default_bundle()), RULES.version, IdentityRules())
