"""Every setting of the product: frozen, validated, with its default.

Later wins: default, `streamer.toml` (or `--config FILE`), environment `STREAMER_<SECTION>__<KEY>`,
command-line options. A secret may come from a file: `STREAMER_KAFKA__SASL_PASSWORD_FILE`, or
`sasl_password_file` in the toml. Empty environment variables count as not set.
An unknown key or a bad value raises `SettingsError`, which names key, place and expectation and
never shows a secret. How the layers are read is in `settings_layers`.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from streamer.pipeline.mapping.path import BadPathError, parse_path
from streamer.schemas.click import KEPT_CLICKS
from streamer.schemas.extras import CAMPAIGN, MOST_EXTRAS, PAGE_TITLE, is_extra
from streamer.settings_layers import Layered, SettingsError, read_layers

__all__ = ["Settings", "SettingsError", "load_settings"]

_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:,@/\[\]]+):(\d{1,5})")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _bootstrap(value: str) -> str:
    servers = [server.strip() for server in value.split(",")]
    for server in servers:
        found = _HOST_PORT.fullmatch(server)
        if found is None or not 0 < int(found[2]) < 65536:
            raise ValueError("Input should be host:port, several separated by commas")
    return ",".join(servers)


def _registry_url(value: str) -> str | None:
    if not value:
        return None
    if re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", value) is None or "@" in value:
        raise ValueError(
            "Input should be an address such as https://registry.example:8081; user and password have "
            "settings of their own"
        )
    return value


def _redis_url(value: str) -> str:
    if re.fullmatch(r"rediss?://[^\s/?#@]+(/\d{0,4})?|unix:///[^\s?#@]+", value) is None:
        raise ValueError(
            "Input should be an address such as redis://redis.example:6379/0, rediss:// with TLS, or "
            "unix:///path; user and password have settings of their own"
        )
    return value


def _path(value: str) -> str | None:
    if not value:
        return None
    try:
        parse_path(value)
    except BadPathError:
        raise ValueError("Input should be a path such as user_id or context.device.id") from None
    return value


def _extras(names: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name for name in names if name))
    wrong = next((name for name in names if not is_extra(name)), None)
    if wrong is not None:
        raise ValueError(
            f"Input should be {PAGE_TITLE}, {', '.join(CAMPAIGN)} or properties.NAME, not {wrong!r}; other "
            "fields of a click are kept anyway, or never"
        )
    if len(names) > MOST_EXTRAS:
        raise ValueError(f"Input should be at most {MOST_EXTRAS} names")
    return names


def _topic_name(value: str) -> str:
    if _TOPIC_NAME.fullmatch(value) is None or value in (".", ".."):
        raise ValueError("Input should be 1 to 249 letters, digits, dots, underscores or hyphens")
    return value


def _timestamp_ms(value: object) -> object:
    """Milliseconds UTC from a number, or from a date or date-time (RFC 3339, UTC unless it says)."""
    if isinstance(value, str) and not re.fullmatch(r"0|-?\d{12,14}", value):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(
                "Input should be a date such as 1990-01-01, or milliseconds UTC (12 to 14 digits)"
            ) from None
    elif isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        value = dt.datetime.combine(value, dt.time())
    if isinstance(value, dt.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        return round(aware.timestamp() * 1000)
    return value


def _names(value: object) -> object:
    """A list; in the environment `logout,exit` or `["logout", "exit"]`."""
    if not isinstance(value, str):
        return value
    if value.startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("Input should be a list of names") from None
    return [name.strip() for name in value.split(",")]


def _table(value: object) -> object:
    """A table; in the environment or a file a JSON object."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('Input should be a JSON object such as {"X-Team": "web"}') from None


def _replication(value: object) -> object:
    if value == "auto":
        return value
    if not re.fullmatch(r"-1|[1-9]\d?|100", str(value)):
        raise ValueError("Input should be auto, -1 or 1 to 100")
    return int(str(value))


TopicName = Annotated[str, AfterValidator(_topic_name)]
Replication = Annotated[int | Literal["auto"], BeforeValidator(_replication)]
"""Replicas of a topic. `auto`: three, or as many as there are brokers; -1: the cluster's own default."""
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
TimestampMs = Annotated[int, BeforeValidator(_timestamp_ms)]
PositiveSeconds = Annotated[float, Field(ge=0.001, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Days = Annotated[float, Field(ge=0.001, le=36_500, allow_inf_nan=False)]


def _hash_key(value: SecretStr) -> SecretStr:
    size = len(value.get_secret_value().encode())
    if not 16 <= size <= 64:
        raise ValueError(f"has {size} bytes, expected 16 to 64")
    return value


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class KafkaSettings(_Section):
    """How to reach the brokers; key names as Kafka's own clients have them."""

    bootstrap_servers: Annotated[str, AfterValidator(_bootstrap)] = "127.0.0.1:9092"
    client_id: str = "clicks-to-intent"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_ca_location: Path | None = None
    """PEM file of the authorities that may sign the brokers; none: the system's."""
    ssl_certificate_location: Path | None = None
    ssl_key_location: Path | None = None
    ssl_key_password: SecretStr | None = None
    ssl_endpoint_identification_algorithm: Literal["https", "none"] = "https"
    """`none` accepts a broker whose certificate names another host."""
    request_timeout_ms: Annotated[int, Field(ge=1000)] = 30_000
    connect_timeout_s: PositiveSeconds = 5
    """How long a command waits for a broker at its start before it gives up."""

    @property
    def uses_tls(self) -> bool:
        return self.security_protocol in ("SSL", "SASL_SSL")

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> KafkaSettings:
        if self.security_protocol.startswith("SASL_") and not (self.sasl_username and self.sasl_password):
            raise ValueError(f"{self.security_protocol} needs kafka.sasl_username and kafka.sasl_password")
        if self.ssl_key_location and not self.ssl_certificate_location:
            raise ValueError("kafka.ssl_key_location needs kafka.ssl_certificate_location")
        return self


class RegistrySettings(_Section):
    """A schema registry with Confluent's protocol."""

    url: Annotated[str, AfterValidator(_registry_url)] | None = None
    """None, or empty: there is none, and schemas have ids of our own."""
    username: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None
    """In place of both: a bearer token."""
    ssl_ca_location: Path | None = None
    """PEM file of the authorities that may sign the registry; none: the system's."""
    ssl_certificate_location: Path | None = None
    ssl_key_location: Path | None = None
    ssl_key_password: SecretStr | None = None
    timeout_s: PositiveSeconds = 10
    """How long one request may take."""
    subject_strategy: Literal["topic", "record", "topic-record"] = "topic"
    """How the subjects of the outputs' schemas are called: TOPIC-value, RECORD or TOPIC-RECORD."""
    auto_register: bool = True
    """Whether schemas of the outputs are registered that aren't yet."""

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> RegistrySettings:
        if (self.username is None) != (self.password is None):
            raise ValueError("registry.username and registry.password go together")
        if self.token is not None and self.username is not None:
            raise ValueError("registry.token takes the place of registry.username: give one of them")
        if self.ssl_key_location and not self.ssl_certificate_location:
            raise ValueError("registry.ssl_key_location needs registry.ssl_certificate_location")
        return self


class AppSettings(_Section):
    id: TopicName = "clicks-to-intent"
    """Consumer group, prefix of the changelog topic and of the transactional ids."""
    instance_id: TopicName | None = None
    """Name of this worker as a static member of the group (KIP-345), stable over restarts; none: dynamic."""


class TopicSettings(_Section):
    clicks: TopicName = "web.clicks.v1"
    intents: TopicName = "web.session-intents.v1"
    embeddings: TopicName = "web.session-embeddings.v1"
    visitors: TopicName = "web.visitor-intents.v1"
    late: TopicName = "web.clicks-late.v1"
    dlq: TopicName = "web.clicks-dlq.v1"
    links: TopicName = "web.identity-links.v1"
    users: TopicName = "web.user-intents.v1"
    erasures: TopicName = "web.erasures.v1"
    lookups: TopicName = "web.lookups.v1"
    """What the look-up service has answered, if `serve.log_lookups` is set."""
    shadow_intents: TopicName = "web.session-intents-shadow.v1"
    """Where `model.shadow_bundle` publishes, and only there."""
    shadow_embeddings: TopicName = "web.session-embeddings-shadow.v1"
    partitions: Annotated[int, Field(ge=1, le=10_000)] = 4
    replication: Replication = "auto"

    @model_validator(mode="after")
    def _names_differ(self) -> TopicSettings:
        names = [value for key, value in self if key not in ("partitions", "replication")]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two topics are called {name!r}; expected {len(names)} different names")
        return self


NATIVE = "native"


class ClickSettings(_Section):
    source: Annotated[str, Field(min_length=1)] = NATIVE
    """What clicks look like: ours; a vendor's profile by its name; or a mapping file by its path."""
    format: Literal["auto", "json", "avro"] = "auto"
    """Of clicks of our own shape."""
    max_bytes: Annotated[int, Field(ge=256, le=16 * 1024 * 1024)] = 262_144
    min_timestamp: TimestampMs = 631_152_000_000
    """Milliseconds UTC (1990-01-01); may be written as a date. Clicks before it are refused."""
    arrival: Literal["log_append_time", "create_time"] = "log_append_time"
    keyed: bool = True
    """Whether a visitor's clicks are in one partition. False: a stage of the worker writes each click to a
    topic of its own, keyed by visitor, and sessions are cut from that: its arrival clock counts."""
    visitor_from: Annotated[str, AfterValidator(_path)] | None = None
    """Path of the field of a record that says who the visitor is; none: as `source` has it."""
    keep: Annotated[Names, AfterValidator(_extras)] = ()
    """What is kept of a click beyond its own fields: `page_title`, `utm_source` and its like,
    `properties.NAME`."""

    @model_validator(mode="after")
    def _has_one_clock(self) -> ClickSettings:
        if not self.keyed and self.arrival == "create_time":
            raise ValueError(
                "clicks.keyed = false gives clicks an arrival time of its own: leave clicks.arrival out"
            )
        return self


class DeadLetterSettings(_Section):
    """Per partition; beyond these the worker stops. See `dead_letter_limit` for why the defaults are so."""

    max_run: Annotated[int, Field(ge=0)] = 10_000
    """Dead letters in a row that are let pass; 0: any number."""
    max_ratio: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    """Share of the last `window` records that may be dead letters; 1: any."""
    window: Annotated[int, Field(ge=10, le=100_000_000)] = 10_000


class SessionSettings(_Section):
    gap_s: PositiveSeconds = 1800
    max_duration_s: PositiveSeconds = 43_200
    max_events: Annotated[int, Field(ge=1)] = 2500
    end_events: Names = ("logout",)

    @property
    def gap_ms(self) -> int:
        return _ms(self.gap_s)

    @property
    def max_duration_ms(self) -> int:
        return _ms(self.max_duration_s)


class WatermarkSettings(_Section):
    out_of_orderness_s: Seconds = 120
    idle_after_s: Seconds = 60
    """0: idleness closes nothing."""
    idle_margin_s: Seconds = 5
    max_future_s: Seconds = 300

    @property
    def out_of_orderness_ms(self) -> int:
        return _ms(self.out_of_orderness_s)

    @property
    def idle_after_ms(self) -> int:
        return _ms(self.idle_after_s)

    @property
    def idle_margin_ms(self) -> int:
        return _ms(self.idle_margin_s)

    @property
    def max_future_ms(self) -> int:
        return _ms(self.max_future_s)


class LateSettings(_Section):
    """What becomes of clicks that come after their session has closed."""

    revise_within_s: Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)] = 0
    """How long a closed session is held, by the watermark: a click that comes meanwhile gives a revision of
    it. 0: such clicks go to the late topic."""

    @property
    def revise_within_ms(self) -> int:
        return _ms(self.revise_within_s)


class CommitSettings(_Section):
    interval_ms: Annotated[int, Field(ge=1, le=30_000)] = 250


class EmitSettings(_Section):
    early_every_s: Seconds = 0
    """How often an open session that goes on is published provisionally; 0: only once, when it closes."""
    on_login: bool = True
    """Whether it is at its first click with a `user_id`, so that the customer's record has it in a moment;
    without identity stages it isn't."""
    memberships: bool = False
    """Whether embeddings and visitors have how much a session belongs to each of the bundle's prototypes: 4
    bytes for each of them."""
    reasons: bool = False
    """Whether intents have the three clicks that speak most for the label. A session is then scored once more
    for each of its clicks."""

    @property
    def early_every_ms(self) -> int:
        return _ms(self.early_every_s)


class IdentitySettings(_Section):
    """Whose sessions they are: `IdentityRules` says what the limits mean."""

    enabled: bool = True
    """False: the worker leaves the identity stages out."""
    lookback_days: Days = 30
    """How far from a session a tie may be, before or after it."""
    max_users: Annotated[int, Field(ge=1, le=1000)] = 3
    max_visitors: Annotated[int, Field(ge=1, le=100_000)] = 50
    history_days: Days = 90
    half_life_days: Days = 7
    no_ids: Names = ("0", "null", "none", "undefined", "anonymous", "nan")
    """Values of `user_id` that name no customer, in any case; zeros and hyphens alone never do."""


class ModelSettings(_Section):
    bundle: Path | None = None
    """Folder of the model bundle; none: the one that is shipped."""
    shadow_bundle: Path | None = None
    """Folder of a bundle that scores along, without publishing to the live topics."""


class LlmSettings(_Section):
    """The language model that teaches, with `--teacher llm` and `--teacher clusters+llm` only."""

    base_url: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    """Of an endpoint with OpenAI's chat completions: `https://models.example/v1`."""
    model: str | None = None
    second_model: str | None = None
    """Labels some sessions too, for the audit of agreement; none: not measured."""
    api_key: SecretStr | None = None
    headers: Annotated[dict[str, SecretStr], BeforeValidator(_table)] = Field(default_factory=dict)
    """Sent with every request; in the environment a JSON object."""
    timeout_s: PositiveSeconds = 600
    """Of one answer; a model on a few cores takes minutes for a long one."""
    retries: Annotated[int, Field(ge=0, le=100)] = 5
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    budget_requests: Annotated[int, Field(ge=1)] = 5000
    """Of one job, over all its runs; when it is spent the job stops, and goes on with a higher one."""
    budget_tokens: Annotated[int, Field(ge=1)] = 5_000_000
    batch_requests: Annotated[int, Field(ge=10, le=50_000)] = 5000
    """At most, of one batch (`--llm-batch`): what an endpoint takes at once is limited, often in tokens."""
    sessions_summarized: Annotated[int, Field(ge=1)] = 400
    sessions_piloted: Annotated[int, Field(ge=1)] = 200
    """Labelled once with the draft, to drop intents that hardly occur."""
    sessions_labelled: Annotated[int, Field(ge=4)] = 2000
    sessions_per_request: Annotated[int, Field(ge=1, le=50)] | None = None
    """None: 10 to summarize and 5 to label; a weak model needs 1."""
    votes: Annotated[int, Field(ge=1, le=9)] = 3
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    """Of votes after the first; everything else is asked at 0."""
    max_tokens: Annotated[int, Field(ge=50)] = 2000
    """Of one answer; a truncated one is asked again with up to four times as many."""
    extra_body: Annotated[dict[str, Any], BeforeValidator(_table)] = Field(default_factory=dict)
    """Further fields of every request; in the environment a JSON object."""
    site: Annotated[str, Field(max_length=2000)] = ""
    """What the website is, in a sentence or two, for the model."""
    min_kappa: Annotated[float, Field(ge=-1, le=1)] = 0.4
    """A taxonomy whose labels agree less with themselves ends the step with exit code 1."""
    min_evidence_precision: Annotated[float, Field(ge=0, le=1)] = 0.8
    max_without_vote: Annotated[float, Field(ge=0, le=1)] = 0.2


class WorkerSettings(_Section):
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port of /livez, /readyz and /metrics; 0: none. With several processes each takes the next one."""
    ready_max_lag: Annotated[int, Field(ge=0)] = 100_000
    """Not ready while a partition is more records behind."""
    stalled_after_s: PositiveSeconds = 60
    """Not live when there is lag and no batch was finished for so long."""
    trim_every_s: PositiveSeconds = 30
    """How often the changelog of open sessions is trimmed."""


class ServeSettings(_Section):
    """The look-up service."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address it listens on; this machine alone reaches it by default."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Another port, of all addresses, without TLS, that has /livez, /readyz and /metrics too; 0: none."""
    tokens: SecretStr | None = None
    """Bearer tokens that callers may have, one a line; none: callers need none."""
    anonymous: bool = False
    """Whether others than this machine may look up with neither a token nor a certificate."""
    ssl_certificate_location: Path | None = None
    """PEM file with the server's certificate; none: no TLS."""
    ssl_key_location: Path | None = None
    ssl_key_password: SecretStr | None = None
    ssl_ca_location: Path | None = None
    """PEM file of the authorities that sign callers' certificates; none: callers need none."""
    rate_limit: Annotated[float, Field(ge=0, le=10_000_000, allow_inf_nan=False)] = 0
    """Look-ups a second of one token's holder, or of everybody without tokens; 0: any number."""
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Ids in a batch, or in an answer of who is similar."""
    ttl_days: Days = 90
    """How long after its session closed a record is returned."""
    similar: bool = False
    """Whether callers may ask who is similar to somebody: they learn ids that they didn't know."""
    log_lookups: bool = False
    """Whether what was answered is written to the topic `topics.lookups`, without the id."""
    log_key: Annotated[SecretStr, AfterValidator(_hash_key)] | None = None
    """Key of the hash that stands for an id there: 16 to 64 bytes."""
    max_age_s: PositiveSeconds = 30
    """Not ready when brokers have answered nothing for so long."""
    drain_s: Seconds = 5
    """How long it still answers after SIGTERM, while /readyz says no, so that load balancers see it."""

    @model_validator(mode="after")
    def _files_are_whole(self) -> ServeSettings:
        if self.ssl_key_location and not self.ssl_certificate_location:
            raise ValueError("serve.ssl_key_location needs serve.ssl_certificate_location")
        if self.ssl_ca_location and not self.ssl_certificate_location:
            raise ValueError("serve.ssl_ca_location needs serve.ssl_certificate_location")
        return self

    @model_validator(mode="after")
    def _hashes_with_a_key(self) -> ServeSettings:
        if self.log_lookups and self.log_key is None:
            raise ValueError("serve.log_lookups needs serve.log_key or serve.log_key_file")
        return self


class RedisSinkSettings(_Section):
    """The Redis or Valkey server that `streamer sink redis` copies to."""

    url: Annotated[str, AfterValidator(_redis_url)] = "redis://127.0.0.1:6379/0"
    username: str | None = None
    password: SecretStr | None = None
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:{}-]{1,64}$")] = "streamer"
    """What its keys begin with."""
    format: Literal["hash", "json"] = "hash"
    """Of a record: a hash of its fields, with vectors that can be indexed, or one JSON document."""
    ttl_days: Days = 90
    """How long after its session closed a record is kept."""
    timeout_s: PositiveSeconds = 5
    """How long one answer may take before it is asked for again."""
    ssl_ca_location: Path | None = None
    """PEM file of the authorities that may sign the server; none: the system's. Of rediss:// only."""
    ssl_certificate_location: Path | None = None
    ssl_key_location: Path | None = None
    ssl_key_password: SecretStr | None = None

    @property
    def uses_tls(self) -> bool:
        return self.url.startswith("rediss://")

    @model_validator(mode="after")
    def _files_are_whole(self) -> RedisSinkSettings:
        if self.ssl_key_location and not self.ssl_certificate_location:
            raise ValueError("sink.redis.ssl_key_location needs sink.redis.ssl_certificate_location")
        if not self.uses_tls and (self.ssl_ca_location or self.ssl_certificate_location):
            raise ValueError("sink.redis.ssl_* are of rediss://, and sink.redis.url is not")
        return self


class ParquetSinkSettings(_Section):
    """The folder of Parquet files that `streamer sink parquet` writes."""

    folder: Path | None = None
    commit_every_s: PositiveSeconds = 60
    """How long records wait at most before they are written."""
    erase_every_s: Seconds = 3600
    """How long erasures wait at most before files are written anew without those rows."""
    target_bytes: Annotated[int, Field(ge=1)] = 134_217_728
    """Files of a day that are smaller than half of it are joined, once there are eight."""


class IcebergSinkSettings(_Section):
    """The tables of Iceberg that `streamer sink iceberg` writes: in a folder, or of a catalogue."""

    folder: Path | None = None
    """Has the files and, in catalog.db, the catalogue."""
    catalog: Annotated[str, Field(min_length=1)] | None = None
    """In place of a folder: a catalogue by its name in pyiceberg's own configuration."""
    namespace: Annotated[str, Field(pattern=r"^\w+$")] = "streamer"
    """Of the tables sessions and users."""
    commit_every_s: PositiveSeconds = 60
    """How long records wait at most before they are written."""
    erase_every_s: Seconds = 3600
    """How long erasures wait at most before files are written anew without those rows."""
    keep_snapshots_s: Seconds = 3600
    """How long snapshots that were replaced are kept, unless they have rows of the erased."""
    target_bytes: Annotated[int, Field(ge=1)] = 134_217_728
    """The files of a day are joined while all of them are no larger, once there are eight small ones."""

    @model_validator(mode="after")
    def _is_at_one_place(self) -> IcebergSinkSettings:
        if self.folder is not None and self.catalog is not None:
            raise ValueError("folder and catalog are both set; expected one of them")
        return self


class SinkSettings(_Section):
    """Copies of visitors and customers elsewhere."""

    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port of /livez, /readyz and /metrics; 0: none."""
    max_age_s: PositiveSeconds = 30
    """Not ready when brokers have answered nothing for so long."""
    rebuild_after_s: PositiveSeconds = 72_000
    """Behind for longer, the sink reads its topics from the beginning: less than `delete.retention.ms`, for
    which brokers keep tombstones."""
    redis: RedisSinkSettings = RedisSinkSettings()
    parquet: ParquetSinkSettings = ParquetSinkSettings()
    iceberg: IcebergSinkSettings = IcebergSinkSettings()


class UiSettings(_Section):
    """The live page."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address it listens on; beyond this machine it needs a token of its own."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8090
    token: SecretStr | None = None
    """Who has it sees the page; none: a new one at each start, in the link that is printed."""
    show_queries: bool = False
    """Whether explanations show what customers searched for; scrubbed, as it is kept."""


class TracingSettings(_Section):
    """OpenTelemetry spans of a worker. What isn't here, the standard variables OTEL_* say."""

    enabled: bool = False
    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+[^\s@]*$")] | None = None
    """Where spans are sent, as OTLP over HTTP; none: OTEL_EXPORTER_OTLP_ENDPOINT, or this machine."""
    sample_ratio: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.01
    """Share of the sessions that are traced. Those with a click whose own trace is recorded always are."""
    max_links: Annotated[int, Field(ge=1, le=KEPT_CLICKS)] = 32
    """Of a session's span to spans of its clicks."""


class LogSettings(_Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"
    """`auto`: readable on a terminal, JSON lines otherwise."""


class Settings(_Section):
    """All sections. `load_settings` builds it; tests may call `Settings()` for the defaults."""

    kafka: KafkaSettings = KafkaSettings()
    registry: RegistrySettings = RegistrySettings()
    app: AppSettings = AppSettings()
    topics: TopicSettings = TopicSettings()
    clicks: ClickSettings = ClickSettings()
    dead_letters: DeadLetterSettings = DeadLetterSettings()
    session: SessionSettings = SessionSettings()
    watermark: WatermarkSettings = WatermarkSettings()
    late: LateSettings = LateSettings()
    commit: CommitSettings = CommitSettings()
    emit: EmitSettings = EmitSettings()
    identity: IdentitySettings = IdentitySettings()
    model: ModelSettings = ModelSettings()
    llm: LlmSettings = LlmSettings()
    worker: WorkerSettings = WorkerSettings()
    serve: ServeSettings = ServeSettings()
    sink: SinkSettings = SinkSettings()
    ui: UiSettings = UiSettings()
    tracing: TracingSettings = TracingSettings()
    log: LogSettings = LogSettings()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The topics that a worker publishes to."""
        topics = self.topics
        shadow = (topics.shadow_intents, topics.shadow_embeddings) if self.model.shadow_bundle else ()
        users = (topics.users,) if self.identity.enabled else ()
        return (topics.embeddings, topics.intents, topics.visitors, *users, topics.late, topics.dlq, *shadow)

    @property
    def looked_up(self) -> dict[str, str]:
        """The topics that the look-up service answers from, by what their keys are."""
        users = {"users": self.topics.users} if self.identity.enabled else {}
        return {"visitors": self.topics.visitors, **users}

    @property
    def of_lookups(self) -> tuple[str, ...]:
        """The topic that look-ups are written to; nothing where they aren't."""
        return (self.topics.lookups,) if self.serve.log_lookups else ()

    @property
    def emits_at_login(self) -> bool:
        """Whether a session is published provisionally when somebody logs in."""
        return self.emit.on_login and self.identity.enabled

    @property
    def session_source(self) -> str:
        """The topic that sessions are cut from, where a visitor's clicks are in one partition."""
        return self.topics.clicks if self.clicks.keyed else self.clicks_by_visitor

    @property
    def clicks_by_visitor(self) -> str:
        """The topic that clicks are written to by visitor where they come otherwise."""
        return f"{self.app.id}-clicks-by-visitor"

    @property
    def repartition_changelog(self) -> str:
        """The topic that holds how far the stage has come which does that."""
        return f"{self.app.id}-repartition-changelog"

    @property
    def of_repartition(self) -> tuple[str, ...]:
        """What that stage writes beside the dead letters; nothing where it is left out."""
        return () if self.clicks.keyed else (self.clicks_by_visitor, self.repartition_changelog)

    @property
    def changelog(self) -> str:
        """The topic that holds the state of open sessions."""
        return f"{self.app.id}-sessions-changelog"

    @property
    def user_changes(self) -> str:
        """The topic on which attribution reports to the users' shards."""
        return f"{self.app.id}-user-changes"

    @property
    def attribution_changelog(self) -> str:
        """The topic that holds visitors' ties and the sessions that wait for one."""
        return f"{self.app.id}-attribution-changelog"

    @property
    def users_changelog(self) -> str:
        """The topic that holds users' sessions."""
        return f"{self.app.id}-users-changelog"

    @property
    def by_user(self) -> tuple[str, ...]:
        """Topics whose keys are users; nothing where the identity stages are left out."""
        names = (self.topics.users, self.user_changes, self.users_changelog)
        return names if self.identity.enabled else ()

    @property
    def of_identity(self) -> tuple[str, ...]:
        """What the identity stages need beside the outputs; nothing where they are left out."""
        changelogs = (self.user_changes, self.attribution_changelog, self.users_changelog)
        return (self.topics.links, *changelogs) if self.identity.enabled else ()

    @property
    def stage_sources(self) -> dict[str, str]:
        """What each stage beside that of the sessions reads, by its consumer group, if it isn't left out."""
        sources = {} if self.clicks.keyed else {"repartition": self.topics.clicks}
        if self.identity.enabled:
            sources |= {"attribution": self.topics.visitors, "users": self.user_changes}
        return {f"{self.app.id}-{name}": topic for name, topic in sources.items()}


def load_settings(
    config: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from all layers.

    `config`: the toml file (it must exist then); none: `streamer.toml` in the working directory, if any.
    `overrides`: dotted keys, `{"topics.clicks": "web.clicks.v2"}`; a value of None is not set.
    `environ`: the environment; none: the process's.
    """
    layered = read_layers(_known_keys(), config, overrides or {}, environ)
    try:
        return Settings.model_validate(layered.nested())
    except ValidationError as error:
        raise _explained(error, layered) from None


def _known_keys() -> dict[str, dict[str, bool]]:
    """Section -> key -> whether the key is a secret."""
    known: dict[str, dict[str, bool]] = {}
    for section, info in Settings.model_fields.items():
        _add_known(known, section, _section_model(info.annotation))
    return known


def _add_known(known: dict[str, dict[str, bool]], section: str, model: type[_Section]) -> None:
    known[section] = {}
    for key, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section):
            _add_known(known, f"{section}.{key}", field.annotation)
        else:
            known[section][key] = "SecretStr" in str(field.annotation)


def _section_model(annotation: Any) -> type[_Section]:
    assert isinstance(annotation, type)
    assert issubclass(annotation, _Section)
    return annotation


def _explained(error: ValidationError, layered: Layered) -> SettingsError:
    first, *more = error.errors(include_url=False, include_context=False)
    location = tuple(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    rest = f" (and {len(more)} more)" if more else ""
    depth = max(n for n in range(1, len(location) + 1) if n == 1 or ".".join(location[:n]) in layered.known)
    section = ".".join(location[:depth])
    if len(location) == depth:
        return SettingsError(f"{section}: {said}{rest}")
    expected = re.sub(r"^Input should be (a valid )?", "expected ", said)
    return SettingsError(f"{layered.described(section, location[depth])}: {expected}{rest}")
