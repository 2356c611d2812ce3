"""Settings -> keyword arguments of aiokafka's clients, the same for consumers, producers and admins."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import SecretStr

from streamer.errors import UsageError
from streamer.kafka.aiokafka_overrides.install import install_overrides
from streamer.settings import KafkaSettings

ClientArguments = dict[str, Any]
Client = TypeVar("Client", bound=Any)
_STOP_S = 5.0


class TlsFileError(UsageError):
    """A certificate or key file of the settings can't be used."""


def client_arguments(kafka: KafkaSettings) -> ClientArguments:
    """What `AIOKafkaConsumer`, `AIOKafkaProducer` and `AIOKafkaAdminClient` all take.

    Holds the password in clear: never log or print it. Raises `TlsFileError`. Whoever asks is about to open a
    client, so the overrides of aiokafka are installed first.
    """
    install_overrides()
    arguments: ClientArguments = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "client_id": kafka.client_id,
        "request_timeout_ms": kafka.request_timeout_ms,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.uses_tls:
        context = ssl_context(kafka, "kafka")
        context.check_hostname = kafka.ssl_endpoint_identification_algorithm == "https"
        arguments["ssl_context"] = context
    if kafka.security_protocol.startswith("SASL_"):
        assert kafka.sasl_password is not None
        arguments["sasl_mechanism"] = kafka.sasl_mechanism
        arguments["sasl_plain_username"] = kafka.sasl_username
        arguments["sasl_plain_password"] = kafka.sasl_password.get_secret_value()
    return arguments


def committed_reader(arguments: ClientArguments, **options: Any) -> Any:
    """aiokafka's consumer of partitions that it is assigned, in no group. Committed records only, by default.

    Where retention overtakes it, it goes on with what is still there.
    """
    from aiokafka import AIOKafkaConsumer

    defaults = {
        "isolation_level": "read_committed",
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "group_id": None,
    }
    return AIOKafkaConsumer(**arguments, **(defaults | options))


@asynccontextmanager
async def running(client: Client) -> AsyncIterator[Client]:
    """An aiokafka client between its start and its end, which takes a bounded time and raises nothing.

    Where no broker answers, aiokafka's own `stop` may wait for ever, or raise what one of its tasks was
    cancelled with.
    """
    try:
        await client.start()
        yield client
    finally:
        stopping = asyncio.ensure_future(client.stop())
        stopping.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait({stopping}, timeout=_STOP_S)


class TlsFiles(Protocol):
    """The settings of a section that name certificates."""

    @property
    def ssl_ca_location(self) -> Path | None: ...

    @property
    def ssl_certificate_location(self) -> Path | None: ...

    @property
    def ssl_key_location(self) -> Path | None: ...

    @property
    def ssl_key_password(self) -> SecretStr | None: ...


def ssl_context(files: TlsFiles, section: str) -> ssl.SSLContext:
    """TLS as the settings say: own or system authorities, own certificate if given. Raises `TlsFileError`."""
    try:
        context = ssl.create_default_context(cafile=files.ssl_ca_location)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(f"{section}.ssl_ca_location", files.ssl_ca_location, error) from None
    if files.ssl_certificate_location is not None:
        _load_certificate(context, files, section)
    return context


def server_ssl_context(files: TlsFiles, section: str) -> ssl.SSLContext | None:
    """TLS for a server, None without a certificate. With authorities of its own it asks clients for
    certificates that these have signed. Raises `TlsFileError`."""
    if files.ssl_certificate_location is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load_certificate(context, files, section)
    if files.ssl_ca_location is not None:
        try:
            context.load_verify_locations(files.ssl_ca_location)
        except (OSError, ssl.SSLError) as error:
            raise _unusable(f"{section}.ssl_ca_location", files.ssl_ca_location, error) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load_certificate(context: ssl.SSLContext, files: TlsFiles, section: str) -> None:
    assert files.ssl_certificate_location is not None
    # Never None: OpenSSL would ask on the terminal for the password of an encrypted key.
    password = files.ssl_key_password.get_secret_value() if files.ssl_key_password else ""
    own, key = files.ssl_certificate_location, files.ssl_key_location
    try:
        context.load_cert_chain(own, key, password=password)
    except (OSError, ssl.SSLError) as error:
        if key is not None and not key.is_file():
            raise _unusable(f"{section}.ssl_key_location", key, error) from None
        if own.is_file():
            raise TlsFileError(
                f"{section}.ssl_certificate_location = {own}, {section}.ssl_key_location = {key}: not usable "
                f"PEM, no pair, or the wrong {section}.ssl_key_password"
            ) from None
        raise _unusable(f"{section}.ssl_certificate_location", own, error) from None


def _unusable(key: str, path: object, error: OSError) -> TlsFileError:
    if isinstance(error, FileNotFoundError):
        reason = "no such file"
    elif isinstance(error, PermissionError):
        reason = "no permission to read it"
    else:
        reason = "not usable PEM"
    return TlsFileError(f"{key} = {path}: {reason}")
