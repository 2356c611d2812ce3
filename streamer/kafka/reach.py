"""Is there a broker, does it let us in, and if not: why, in one line and within seconds.

aiokafka says "Unable to bootstrap" for everything; here each cause has its own words.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from streamer.errors import StreamerError
from streamer.kafka.client import client_arguments
from streamer.settings import KafkaSettings

_RETRY_S = 0.25


class BrokerError(StreamerError):
    """No broker can be used; the text names the address, the cause and the setting to look at."""


class _TryAgainError(BrokerError):
    """The address does not answer (yet)."""


async def check_brokers(kafka: KafkaSettings) -> None:
    """Returns when one of the bootstrap servers lets us in. Raises `BrokerError`.

    An address that doesn't answer is tried for `kafka.connect_timeout_s`; a refusal is final at once.
    """
    deadline = time.monotonic() + kafka.connect_timeout_s
    arguments = client_arguments(kafka) | {"request_timeout_ms": round(kafka.connect_timeout_s * 1000)}
    addresses = arguments.pop("bootstrap_servers").split(",")
    while True:
        try:
            return await _first_that_answers(addresses, arguments)
        except _TryAgainError:
            if time.monotonic() + _RETRY_S > deadline:
                raise
        await asyncio.sleep(_RETRY_S)


async def refusals(kafka: KafkaSettings) -> list[BrokerError]:
    """Why brokers don't let us in, one error each: the bootstrap servers, and those that the cluster names.

    Each is tried once, all at the same time, within `kafka.connect_timeout_s`. Raises `BrokerError` if none
    answers.
    """
    from aiokafka.protocol.metadata import MetadataRequest

    soon = kafka.model_copy(update={"request_timeout_ms": round(kafka.connect_timeout_s * 1000)})
    arguments = client_arguments(soon)
    servers = arguments.pop("bootstrap_servers").split(",")
    async with connection(soon) as link:
        metadata = await link.send(MetadataRequest([]))
    addresses = dict.fromkeys([*servers, *(f"{host}:{port}" for _, host, port, *_ in metadata.brokers)])
    answers = (_check(address, arguments) for address in addresses)
    found = await asyncio.gather(*answers, return_exceptions=True)
    return [error for error in found if isinstance(error, BrokerError)]


@asynccontextmanager
async def connection(kafka: KafkaSettings) -> AsyncIterator[Any]:
    """A connection to the first of the bootstrap servers that lets us in. Raises `BrokerError`."""
    from aiokafka.conn import create_conn

    arguments = client_arguments(kafka)
    error: BrokerError | None = None
    for address in arguments.pop("bootstrap_servers").split(","):
        host, _, port = address.rpartition(":")
        try:
            link = await create_conn(host.strip("[]"), int(port), **arguments)
        except Exception as failure:
            error = error or _explained(failure, address, arguments)
            continue
        try:
            yield link
        finally:
            link.close()
        return
    assert error is not None
    raise error


async def _first_that_answers(addresses: list[str], arguments: dict[str, Any]) -> None:
    error: _TryAgainError | None = None
    for address in addresses:
        try:
            return await _check(address, arguments)
        except _TryAgainError as unreachable:
            error = error or unreachable
    assert error is not None
    raise error


async def _check(address: str, arguments: dict[str, Any]) -> None:
    from aiokafka.conn import create_conn
    from aiokafka.protocol.metadata import MetadataRequest

    host, _, port = address.rpartition(":")
    try:
        connection = await create_conn(host.strip("[]"), int(port), **arguments)
        try:
            metadata = await connection.send(MetadataRequest([]))
        finally:
            connection.close()
    except Exception as error:
        raise _explained(error, address, arguments) from None
    await _check_advertised(address, [(broker[1], broker[2]) for broker in metadata.brokers])


async def _check_advertised(address: str, brokers: list[tuple[str, int]]) -> None:
    """The cluster sends clients on to its advertised addresses: one of them has to be reachable."""
    if not brokers:
        raise _TryAgainError(f"the broker at {address} knows of no broker yet: it is still starting")
    for host, port in brokers:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout=2)
        except (OSError, TimeoutError):
            continue
        writer.close()
        return
    named = ", ".join(f"{host}:{port}" for host, port in brokers)
    raise _TryAgainError(
        f"the broker at {address} sends its clients on to {named}, which can't be reached from here: "
        "check the broker's advertised.listeners"
    )


def _explained(error: Exception, address: str, arguments: dict[str, Any]) -> BrokerError:
    from aiokafka import errors

    protocol = arguments["security_protocol"]
    if isinstance(error.__cause__, ssl.SSLError):  # reported only after the handshake, as TLS 1.3 does
        error = error.__cause__
    match error:
        case ssl.SSLError():
            return _explained_tls(error, address, protocol)
        case errors.UnsupportedSaslMechanismError():
            mechanism = arguments["sasl_mechanism"]
            return BrokerError(f"the broker at {address} refuses {mechanism}: check kafka.sasl_mechanism")
        case errors.SaslAuthenticationFailed():
            user = arguments["sasl_plain_username"]
            return BrokerError(
                f"the broker at {address} refuses user {user!r} with this password: "
                "check kafka.sasl_username and kafka.sasl_password"
            )
        case errors.IllegalSaslStateError():
            return BrokerError(
                f"the broker at {address} wants no password there: check kafka.security_protocol ({protocol})"
            )
        case TimeoutError() | errors.KafkaTimeoutError():
            return _TryAgainError(
                f"no Kafka broker answers at {address} (no reply in time): "
                f"check kafka.bootstrap_servers and kafka.security_protocol ({protocol})"
            )
        case ConnectionResetError() | errors.KafkaConnectionError() | EOFError():
            return _TryAgainError(
                f"the server at {address} closes the connection: "
                f"check that it is a Kafka broker, and kafka.security_protocol ({protocol})"
            )
        case OSError():
            return _TryAgainError(
                f"no Kafka broker answers at {address} ({_os_reason(error)}): "
                "check kafka.bootstrap_servers, or start one with 'streamer kafka start'"
            )
        case _:
            return BrokerError(f"the server at {address} does not speak Kafka ({type(error).__name__})")


def _explained_tls(error: ssl.SSLError, address: str, protocol: str) -> BrokerError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return BrokerError(
            f"the certificate of the broker at {address} is not trusted ({error.verify_message}): "
            "check kafka.ssl_ca_location and the host name"
        )
    return BrokerError(
        f"no TLS with {address} ({error.reason}): check kafka.ssl_certificate_location "
        f"and kafka.security_protocol ({protocol})"
    )


def _os_reason(error: OSError) -> str:
    """asyncio joins the errors of several addresses into one text without a number."""
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "connection refused"
    return error.strerror or type(error).__name__


def answers(address: str) -> bool:
    """Whether a PLAINTEXT broker answers at host:port within a second. Works inside a running loop too."""
    arguments = client_arguments(KafkaSettings(request_timeout_ms=1000))
    del arguments["bootstrap_servers"]
    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(asyncio.run, _first_that_answers([address], arguments)).result()
        except BrokerError:
            return False
    return True
