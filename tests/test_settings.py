"""Settings: defaults, layers, secrets, and errors that name key, place and expectation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from streamer.identity.rules import DAY_MS, IdentityRules
from streamer.rules_from_settings import identity_rules
from streamer.settings import Settings, SettingsError, load_settings
from tests.conftest import dotted


def from_environment(**variables: str) -> Settings:
    return load_settings(environ={f"STREAMER_{name}": value for name, value in variables.items()})


def refused(config: Path | None = None, environ: Mapping[str, str] | None = None, **overrides: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(config, dotted(overrides), environ or {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "own.toml"


def test_defaults_are_the_documented_ones() -> None:
    settings = load_settings(environ={})
    assert settings.kafka.bootstrap_servers == "127.0.0.1:9092"
    assert settings.kafka.security_protocol == "PLAINTEXT"
    assert settings.app.id == "clicks-to-intent"
    assert settings.changelog == "clicks-to-intent-sessions-changelog"
    assert settings.topics.model_dump() == {
        "clicks": "web.clicks.v1",
        "intents": "web.session-intents.v1",
        "embeddings": "web.session-embeddings.v1",
        "visitors": "web.visitor-intents.v1",
        "late": "web.clicks-late.v1",
        "dlq": "web.clicks-dlq.v1",
        "links": "web.identity-links.v1",
        "users": "web.user-intents.v1",
        "erasures": "web.erasures.v1",
        "lookups": "web.lookups.v1",
        "shadow_intents": "web.session-intents-shadow.v1",
        "shadow_embeddings": "web.session-embeddings-shadow.v1",
        "partitions": 4,
        "replication": "auto",
    }
    assert settings.clicks.model_dump() == {
        "source": "native",
        "format": "auto",
        "max_bytes": 262_144,
        "min_timestamp": 631_152_000_000,
        "arrival": "log_append_time",
        "keyed": True,
        "visitor_from": None,
        "keep": (),
    }
    assert settings.session.model_dump() == {
        "gap_s": 1800,
        "max_duration_s": 43_200,
        "max_events": 2500,
        "end_events": ("logout",),
    }
    assert settings.watermark.model_dump() == {
        "out_of_orderness_s": 120,
        "idle_after_s": 60,
        "idle_margin_s": 5,
        "max_future_s": 300,
    }
    assert settings.commit.interval_ms == 250
    assert settings.emit.model_dump() == {
        "early_every_s": 0,
        "on_login": True,
        "memberships": False,
        "reasons": False,
    }
    assert settings.identity.model_dump() == {
        "enabled": True,
        "lookback_days": 30,
        "max_users": 3,
        "max_visitors": 50,
        "history_days": 90,
        "half_life_days": 7,
        "no_ids": ("0", "null", "none", "undefined", "anonymous", "nan"),
    }
    assert settings.user_changes == "clicks-to-intent-user-changes"
    assert settings.attribution_changelog == "clicks-to-intent-attribution-changelog"
    assert settings.users_changelog == "clicks-to-intent-users-changelog"
    assert settings.model.bundle is None
    assert settings.model.shadow_bundle is None


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.session.gap_s = 1  # type: ignore[misc]


def test_seconds_are_also_given_in_ms() -> None:
    settings = from_environment(SESSION__GAP_S="0.25", WATERMARK__MAX_FUTURE_S="12")
    assert settings.session.gap_ms == 250
    assert settings.watermark.max_future_ms == 12_000


def test_a_copy_has_the_ms_of_its_own_seconds() -> None:
    settings = load_settings(environ={})
    assert settings.late.revise_within_ms == 0
    assert settings.late.model_copy(update={"revise_within_s": 0.25}).revise_within_ms == 250


def test_the_rules_of_identity_are_those_of_the_settings() -> None:
    assert identity_rules(Settings()) == IdentityRules()
    settings = from_environment(
        IDENTITY__LOOKBACK_DAYS="0.5",
        IDENTITY__HISTORY_DAYS="2",
        IDENTITY__HALF_LIFE_DAYS="1",
        IDENTITY__MAX_USERS="4",
        IDENTITY__MAX_VISITORS="5",
        IDENTITY__NO_IDS="GUEST,n/a",
    )
    rules = identity_rules(settings)
    assert (rules.lookback_ms, rules.history_ms, rules.half_life_ms) == (DAY_MS // 2, 2 * DAY_MS, DAY_MS)
    assert (rules.max_users, rules.max_visitors) == (4, 5)
    assert [rules.names_user(user) for user in ("guest", "Guest", "N/A", "none")] == [
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("key", ["lookback_days", "history_days", "half_life_days"])
@pytest.mark.parametrize("days", ["0", "-1", "nan", "inf", "40000"])
def test_days_are_more_than_none(key: str, days: str) -> None:
    assert f"identity.{key}" in refused(environ={f"STREAMER_IDENTITY__{key.upper()}": days})


def test_options_win_over_environment_over_toml_over_default(toml: Path) -> None:
    toml.write_text('[app]\nid = "toml"\n[session]\ngap_s = 1\nmax_events = 1\n')
    environ = {"STREAMER_SESSION__GAP_S": "2", "STREAMER_SESSION__MAX_EVENTS": "2"}
    settings = load_settings(toml, {"session.gap_s": 3}, environ)
    assert (settings.app.id, settings.session.max_events, settings.session.gap_s) == ("toml", 2, 3)
    assert settings.session.max_duration_s == 43_200


def test_streamer_toml_of_the_working_directory_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "streamer.toml").write_text('[app]\nid = "here"\n')
    monkeypatch.chdir(tmp_path)
    assert load_settings(environ={}).app.id == "here"


def test_empty_variables_and_options_not_given_count_as_not_set() -> None:
    settings = load_settings(None, {"app.id": None}, {"STREAMER_SESSION__GAP_S": ""})
    assert settings == Settings()


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("2001-01-01", 978_307_200_000),
        ("2001-01-01T01:00:00+01:00", 978_307_200_000),
        ("2001-01-01T00:00:00Z", 978_307_200_000),
        ("978307200000", 978_307_200_000),
    ],
)
def test_min_timestamp_is_a_date_or_milliseconds(written: str, ms: int) -> None:
    assert from_environment(CLICKS__MIN_TIMESTAMP=written).clicks.min_timestamp == ms


@pytest.mark.parametrize("written", ["2001", "200101", "978307200", "soon"])
def test_a_number_that_is_no_date_and_no_milliseconds_is_refused(written: str) -> None:
    with pytest.raises(SettingsError, match="a date such as 1990-01-01, or milliseconds UTC"):
        from_environment(CLICKS__MIN_TIMESTAMP=written)


def test_min_timestamp_is_a_toml_date(toml: Path) -> None:
    toml.write_text("[clicks]\nmin_timestamp = 2001-01-01\n")
    assert load_settings(toml, environ={}).clicks.min_timestamp == 978_307_200_000


@pytest.mark.parametrize("written", ["logout,exit", '["logout", "exit"]', " logout , exit"])
def test_end_events_are_a_list_in_the_environment(written: str) -> None:
    assert from_environment(SESSION__END_EVENTS=written).session.end_events == ("logout", "exit")


def test_end_events_can_be_none() -> None:
    assert from_environment(SESSION__END_EVENTS="[]").session.end_events == ()


@pytest.mark.parametrize("written", ["broker:9092", "a:1,b:65535", "[::1]:9092", "10.0.0.1:9092 , b.c:1"])
def test_bootstrap_servers_are_host_and_port(written: str) -> None:
    assert from_environment(KAFKA__BOOTSTRAP_SERVERS=written).kafka.bootstrap_servers == written.replace(
        " ", ""
    )


def test_a_password_in_an_address_is_refused_unseen() -> None:
    for written in ("user:hunter2@broker:9092", "SASL_SSL://user:hunter2@broker:9092", "hunter2@broker:9092"):
        message = refused(environ={"STREAMER_KAFKA__BOOTSTRAP_SERVERS": written})
        assert "hunter2" not in message
        assert "expected host:port" in message


@pytest.mark.parametrize("written", ["broker", "broker:0", "broker:65536", "a:1,,b:1", "http://a:1", "a b:1"])
def test_bootstrap_servers_without_a_port_are_refused(written: str) -> None:
    message = refused(environ={"STREAMER_KAFKA__BOOTSTRAP_SERVERS": written})
    assert message.startswith(f"kafka.bootstrap_servers = '{written}' (STREAMER_KAFKA__BOOTSTRAP_SERVERS)")
    assert "expected host:port" in message


def test_bad_value_names_key_value_place_and_expectation(toml: Path) -> None:
    toml.write_text("[session]\ngap_s = -5\n")
    expected = f"session.gap_s = -5 ({toml}): expected greater than or equal to 0.001"
    assert refused(toml) == expected


@pytest.mark.parametrize(("written", "meant"), [("auto", "auto"), ("-1", -1), ("1", 1), ("100", 100)])
def test_replicas_are_a_number_or_left_to_the_cluster(written: str, meant: object) -> None:
    settings = load_settings(environ={"STREAMER_TOPICS__REPLICATION": written})
    assert settings.topics.replication == meant


@pytest.mark.parametrize("written", ["0", "-2", "101", "many", "1.5"])
def test_other_replicas_are_refused(written: str) -> None:
    message = refused(environ={"STREAMER_TOPICS__REPLICATION": written})
    assert message.endswith("expected auto, -1 or 1 to 100")


def test_bad_option_names_the_command_line() -> None:
    assert refused(clicks__format="xml").startswith("clicks.format = 'xml' (command line): expected 'auto'")


@pytest.mark.parametrize("value", ["nan", "inf", "-0.1", "soon"])
def test_seconds_are_finite_and_not_negative(value: str) -> None:
    assert "watermark.idle_after_s" in refused(environ={"STREAMER_WATERMARK__IDLE_AFTER_S": value})


def test_unknown_key_suggests_the_known_one(toml: Path) -> None:
    toml.write_text("[session]\ngap = 5\n")
    assert refused(toml) == f"{toml}: unknown key session.gap, did you mean 'gap_s'?"


def test_unknown_section_lists_the_known_ones() -> None:
    message = refused(environ={"STREAMER_NOTHING__GAP_S": "5"})
    assert message.startswith(
        "STREAMER_NOTHING__GAP_S: unknown section 'nothing', expected one of app, clicks"
    )


def test_one_underscore_between_section_and_key_is_refused() -> None:
    message = refused(environ={"STREAMER_KAFKA_BOOTSTRAP_SERVERS": "a:1"})
    assert message.endswith("expected STREAMER_KAFKA__BOOTSTRAP_SERVERS")


def test_variables_that_others_set_for_a_service_called_streamer_are_ignored() -> None:
    """Kubernetes sets these in every pod beside a service of that name."""
    environ = {"STREAMER_SERVICE_HOST": "10.0.0.1", "STREAMER_WORKER_PORT_9090_TCP": "tcp://10.0.0.1:9090"}
    assert load_settings(environ=environ) == Settings()


def test_key_outside_a_section_is_refused(toml: Path) -> None:
    toml.write_text("gap_s = 5\n")
    assert refused(toml) == f"{toml}: 'gap_s' stands outside every section, expected [section]"


def test_config_that_is_not_there_is_an_error(toml: Path) -> None:
    assert "own.toml: cannot be read (No such file or directory)" in refused(toml)


@pytest.mark.parametrize("content", [b"[session\n", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_config_that_is_no_toml_is_an_error(toml: Path, content: bytes) -> None:
    toml.write_bytes(content)
    assert str(toml) in refused(toml)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", "x" * 250])
def test_topic_names_that_kafka_refuses_are_refused(name: str) -> None:
    assert "topics.clicks" in refused(topics__clicks=name)


def test_two_topics_with_one_name_are_refused() -> None:
    assert "two topics are called 'web.clicks.v1'" in refused(topics__late="web.clicks.v1")


def test_sasl_needs_user_and_password() -> None:
    message = refused(kafka__security_protocol="SASL_SSL", kafka__sasl_username="app")
    assert message == "kafka: SASL_SSL needs kafka.sasl_username and kafka.sasl_password"


def test_secret_comes_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    settings = from_environment(KAFKA__SASL_PASSWORD_FILE=str(secret))
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == "s3cret"


def test_secret_file_may_be_named_in_the_toml(tmp_path: Path, toml: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    toml.write_text(f'[kafka]\nssl_key_password_file = "{tmp_path / "secret"}"\n')
    password = load_settings(toml, environ={}).kafka.ssl_key_password
    assert password is not None
    assert password.get_secret_value() == "s3cret"


def test_sections_within_sections_are_tables_and_two_underscores(toml: Path) -> None:
    toml.write_text('[sink]\nmetrics_port = 1\n[sink.redis]\nprefix = "toml"\npassword = "toml"\n')
    settings = load_settings(toml, {"sink.redis.prefix": "option"}, {"STREAMER_SINK__REDIS__PASSWORD": "env"})
    assert settings.sink.redis.password is not None
    assert (settings.sink.metrics_port, settings.sink.redis.prefix) == (1, "option")
    assert settings.sink.redis.password.get_secret_value() == "env"


def test_a_bad_value_of_a_section_within_a_section_is_named(toml: Path) -> None:
    toml.write_text('[sink.redis]\nformat = "xml"\n')
    assert f"sink.redis.format = 'xml' ({toml}): expected 'hash' or 'json'" in refused(toml)
    toml.write_text("[sink.redis]\nperfix = 1\n")
    assert "unknown key sink.redis.perfix, did you mean 'prefix'?" in refused(toml)
    for address in ("redis://user:secret@host", "http://host", "redis://host/db", "redis://host?a=1"):
        found = refused(sink__redis__url=address)
        assert "expected an address such as redis://" in found
        assert "secret" not in found
    assert "needs sink.redis.ssl_certificate_location" in refused(sink__redis__ssl_key_location="key.pem")


def test_secret_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    message = refused(environ={"STREAMER_KAFKA__SASL_PASSWORD_FILE": str(tmp_path / "none")})
    assert message.startswith("STREAMER_KAFKA__SASL_PASSWORD_FILE: cannot read")


def test_secret_as_value_and_as_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    name = "STREAMER_KAFKA__SASL_PASSWORD"
    message = refused(environ={name: "other", f"{name}_FILE": str(tmp_path / "secret")})
    assert "given twice" in message


def test_a_later_layer_replaces_a_secret_of_an_earlier_one(tmp_path: Path, toml: Path) -> None:
    (tmp_path / "secret").write_text("from the file")
    toml.write_text('[kafka]\nsasl_password = "from the toml"\n')
    settings = load_settings(toml, environ={"STREAMER_KAFKA__SASL_PASSWORD_FILE": str(tmp_path / "secret")})
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == "from the file"


def test_only_secrets_have_a_file_variant() -> None:
    assert "unknown key kafka.client_id_file" in refused(environ={"STREAMER_KAFKA__CLIENT_ID_FILE": "/x"})


def test_secrets_are_never_shown(toml: Path) -> None:
    settings = from_environment(KAFKA__SASL_PASSWORD="hunter2", KAFKA__SSL_KEY_PASSWORD="hunter2")
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"
    toml.write_text('[kafka]\nsasl_password = ["hunter2"]\n')
    assert "hunter2" not in refused(toml)


def test_the_example_has_every_setting_with_its_default(tmp_path: Path) -> None:
    example = (Path(__file__).parent.parent / "streamer/settings.toml").read_text()
    copy = tmp_path / "streamer.toml"
    copy.write_text(example)
    assert load_settings(copy, environ={}) == Settings()
    sections = Settings().model_dump()
    inner = {f"sink.{name}": sections["sink"].pop(name) for name in ("iceberg", "parquet", "redis")}
    for section, keys in (sections | inner).items():
        text = example.partition(f"[{section}]\n")[2].partition("\n[")[0]
        assert [key for key in keys if f"{key} = " not in text and f"{key}_file = " not in text] == []


def test_clicks_that_are_not_keyed_have_no_clock_of_a_producer() -> None:
    with pytest.raises(SettingsError, match=r"leave clicks\.arrival out"):
        load_settings(overrides={"clicks.keyed": False, "clicks.arrival": "create_time"}, environ={})


def test_another_visitor_is_a_path() -> None:
    with pytest.raises(SettingsError, match=r"clicks\.visitor_from.*expected a path such as user_id"):
        load_settings(overrides={"clicks.visitor_from": "a..b"}, environ={})
    assert load_settings(environ={"STREAMER_CLICKS__VISITOR_FROM": ""}).clicks.visitor_from is None
