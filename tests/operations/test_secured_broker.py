"""A broker with SASL/SCRAM over TLS, client certificates and an authorizer.

What `streamer acls` lists is enough, each of it is asked for, a refusal is told in one line, and no secret
shows up anywhere.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from streamer.kafka.acls import ROLES, Acl, Role, acls_of
from streamer.kafka.permissions import NotPermittedError, check_permissions
from streamer.settings import Settings
from tests.conftest import RunStreamer
from tests.operations.secured import PASSWORD, SECRETS, Secured, every_acl, secured_broker
from tests.worker.live import Worker, as_messages, some_clicks

# asyncio leaves the transport of a TLS handshake that was refused to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

NAMES = {
    "app.id": "secured",
    **{
        f"topics.{topic}": f"secured-{topic}"
        for topic in (
            *("clicks", "intents", "embeddings", "visitors", "late", "dlq"),
            *("erasures", "links", "users"),
        )
    },
}
CLICKS = some_clicks(10, seed=41)
LINES = "".join(f"{value.decode()}\n" for _, value in as_messages(CLICKS))


@pytest.fixture(autouse=True)
def _collect_here() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_broker(tmp_path_factory.mktemp("secured")) as broker:
        for role, acl in every_acl(broker.settings("worker", NAMES)):
            broker.allow(role, [acl])
        yield broker


def keeps_secrets(said: str) -> bool:
    return not any(secret in said for secret in SECRETS)


def refused(done: subprocess.CompletedProcess[str], reason: str, code: int = 1) -> None:
    assert done.returncode == code, done.stderr
    assert reason in done.stderr
    assert keeps_secrets(done.stdout + done.stderr)


def with_files(settings: Settings, secured: Secured) -> dict[str, str]:
    """Secrets as a deployment gives them; a dump of the settings stars them out."""
    from tests.operations.secured import KEY_PASSWORD

    return {
        "STREAMER_KAFKA__SASL_PASSWORD": "",
        "STREAMER_KAFKA__SASL_PASSWORD_FILE": str(secured.folder / "password"),
        "STREAMER_KAFKA__SSL_KEY_PASSWORD": KEY_PASSWORD,
    }


@pytest.fixture
def run(secured: Secured, run_streamer: RunStreamer) -> RunStreamer:
    def as_role(*arguments: str, role: str, stdin: str = "", **changed: object) -> object:
        settings = secured.settings(role, NAMES, **changed)
        environ = with_files(settings, secured) | (
            {"STREAMER_KAFKA__SASL_PASSWORD_FILE": str(changed["sasl_password_file"])}
            if "sasl_password_file" in changed
            else {}
        )
        return run_streamer(*arguments, settings=settings, environ=environ, stdin=stdin)

    return as_role


def test_what_is_listed_is_enough_for_everybody(run: RunStreamer) -> None:
    created = run("topics", "create", role="admin")
    assert created.returncode == 0, created.stderr
    assert run("topics", "check", role="admin").returncode == 0
    assert run("produce", "-", role="producer", stdin=LINES + "{broken\n").returncode == 0
    worker = run("--set", "log.level=debug", "--debug", "worker", "--drain", role="worker")
    assert worker.returncode == 0, worker.stderr
    assert keeps_secrets(worker.stdout + worker.stderr)
    for feed in ("intents", "embeddings", "visitors", "dlq", "late"):
        read = run("subscribe", feed, "--timeout", "1", role="consumer")
        assert read.returncode == 0, read.stderr
    assert json.loads(run("dlq", "replay", "--all", "--json", role="admin").stdout)["replayed"] == 1
    for group in ([], ["--group", "g"]):
        replayed = run("replay", "--out", "topic:secured-replay-out", "--json", *group, role="replay")
        assert replayed.returncode == 0, replayed.stderr
    erased = run("erase", "--visitor", "v1", "--verify", "--timeout", "0", "--json", role="admin")
    assert json.loads(erased.stdout)["latest_intents"] == 1, erased.stderr


@pytest.mark.parametrize("role", ROLES)
def test_each_missing_permission_is_named_before_work_begins(secured: Secured, role: Role) -> None:
    settings = secured.settings(role, NAMES)
    allowed = acls_of(role, settings)
    asyncio.run(check_permissions(settings.kafka, allowed))
    # Topics that are still to be made can't be judged.
    judged = [acl for acl in allowed if (acl.resource, acl.pattern) != ("topic", "prefixed")]
    of_each_kind = {(acl.resource, acl.operation): acl for acl in judged}
    for acl in allowed if role == "worker" else of_each_kind.values():
        secured.forbid(role, acl)
        try:
            with pytest.raises(NotPermittedError) as caught:
                asyncio.run(check_permissions(settings.kafka, [acl]))
        finally:
            secured.allow(role, [acl])
        assert str(caught.value).startswith(f"{role} lacks {acl}: 'streamer acls --print'")


@pytest.mark.parametrize(
    ("role", "command", "acl"),
    [
        ("worker", ("worker", "--drain"), Acl("topic", "secured-erasures", "Read")),
        ("worker", ("worker", "--drain"), Acl("transactional-id", "secured-", "Write", "prefixed")),
        ("worker", ("worker", "--drain"), Acl("group", "secured", "Read")),
        ("producer", ("produce", "-"), Acl("topic", "secured-clicks", "Write")),
        ("consumer", ("subscribe", "intents"), Acl("topic", "secured-intents", "Read")),
        ("admin", ("topics", "check"), Acl("topic", "secured-late", "DescribeConfigs")),
    ],
)
def test_a_command_without_its_permission_ends_with_one_line(
    secured: Secured, run: RunStreamer, role: str, command: tuple[str, ...], acl: Acl
) -> None:
    secured.forbid(role, acl)
    try:
        done = run(*command, role=role, stdin=LINES)
    finally:
        secured.allow(role, [acl])
    refused(done, f"Error: {role} lacks {acl}: 'streamer acls --print' lists what each client needs")
    assert "Traceback" not in done.stderr


def test_a_permission_taken_away_from_a_running_worker_ends_it(secured: Secured, run: RunStreamer) -> None:
    assert run("topics", "create", role="admin").returncode == 0
    settings = secured.settings("worker", NAMES)
    worker = Worker(settings, environ=with_files(settings, secured))
    worker.wait_for("shards_open")
    acl = Acl("topic", settings.changelog, "Write")
    secured.forbid("worker", acl)
    try:
        assert run("produce", "-", role="producer", stdin=LINES).returncode == 0
        assert worker.end(60) == 1
    finally:
        secured.allow("worker", [acl])
    assert "not permitted to work for secured (TopicAuthorizationFailedError)" in worker.log
    assert keeps_secrets(worker.log)


@pytest.mark.parametrize("command", [("worker",), ("topics", "check")])
def test_a_wrong_password_is_told_and_not_shown(
    run: RunStreamer, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "wrong").write_text(f"{PASSWORD}x")
    options = ("--debug", "--set", "log.level=debug")
    done = run(*options, *command, role="worker", sasl_password_file=str(tmp_path / "wrong"), stdin=LINES)
    refused(done, "refuses user 'worker' with this password: check kafka.sasl_username")


@pytest.mark.parametrize("command", [("worker",), ("subscribe", "intents")])
def test_an_unknown_authority_is_told(run: RunStreamer, tmp_path: Path, command: tuple[str, ...]) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    done = run("--debug", *command, role="worker", ssl_ca_location=str(tmp_path / "other.pem"))
    refused(done, "is not trusted (unable to get local issuer certificate): check kafka.ssl_ca_location")


def test_without_a_client_certificate_nobody_is_let_in(run: RunStreamer) -> None:
    done = run("worker", role="worker", ssl_certificate_location=None, ssl_key_location=None)
    refused(done, "check kafka.ssl_certificate_location")


def test_a_wrong_key_password_is_told_and_not_shown(run: RunStreamer, run_streamer: RunStreamer) -> None:
    done = run("--debug", "--set", "kafka.ssl_key_password=wrong-staple", "worker", role="worker")
    refused(done, "the wrong kafka.ssl_key_password", code=2)
    assert "wrong-staple" not in done.stderr


def test_who_has_no_permissions_at_all_sees_nothing(secured: Secured, run: RunStreamer) -> None:
    done = run("subscribe", "visitors", role="nobody")
    refused(done, "nobody lacks Read on topic secured-visitors")
