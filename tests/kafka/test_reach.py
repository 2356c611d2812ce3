"""A broker that can't be used is explained in one line, within seconds, without the password."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from streamer.kafka.embedded import EmbeddedKafka
from streamer.kafka.ports import free_ports
from streamer.kafka.reach import BrokerError, answers, check_brokers
from streamer.kafka.topics import Topic, create_topics
from streamer.settings import KafkaSettings

# asyncio leaves the transport of a TLS handshake that was refused to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

PASSWORD = "correct-horse"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@pytest.fixture(autouse=True)
def _collect_here() -> Iterator[None]:
    """What is left to the collector is collected while its warnings are ignored, not in a later test."""
    yield
    gc.collect()


@dataclass(frozen=True)
class SecureBroker:
    bootstrap: str
    ca: Path

    def settings(self, **changed: Any) -> KafkaSettings:
        right = {
            "bootstrap_servers": self.bootstrap,
            "security_protocol": "SASL_SSL",
            "sasl_username": "app",
            "sasl_password": PASSWORD,
            "ssl_ca_location": self.ca,
            "connect_timeout_s": 5,
        }
        return KafkaSettings.model_validate(right | changed)


def key_store(certificate: trustme.LeafCert) -> str:
    """Key and chain as Kafka's PEM key store wants them: the key in PKCS #8."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode() + "".join(part.bytes().decode() for part in certificate.cert_chain_pems)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    folder = tmp_path_factory.mktemp("secure")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    (folder / "broker.pem").write_text(key_store(authority.issue_cert("127.0.0.1")))
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker.pem"),
        "listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.client.scram-sha-512.sasl.jaas.config": SCRAM,
    }
    users = ("--add-scram", f"SCRAM-SHA-512=[name=app,password={PASSWORD}]")
    with EmbeddedKafka(
        folder / "data", protocol="SASL_SSL", properties=properties, format_options=users
    ) as broker:
        yield SecureBroker(broker.bootstrap, folder / "ca.pem")


def refusal(kafka: KafkaSettings) -> str:
    started = time.monotonic()
    with pytest.raises(BrokerError) as caught:
        asyncio.run(check_brokers(kafka))
    assert time.monotonic() - started < kafka.connect_timeout_s + 10
    message = str(caught.value)
    assert "\n" not in message
    assert kafka.bootstrap_servers in message
    for secret in (PASSWORD, "wrong-horse"):
        assert secret not in message
    return message


def test_right_password_and_authority_are_let_in_and_can_work(secure: SecureBroker) -> None:
    asyncio.run(check_brokers(secure.settings()))
    assert asyncio.run(create_topics(secure.settings(), [Topic("secured", 1, 1, {})])) == ["secured"]


def test_wrong_password_is_told(secure: SecureBroker) -> None:
    message = refusal(secure.settings(sasl_password="wrong-horse"))
    assert "refuses user 'app' with this password: check kafka.sasl_username" in message


def test_unknown_user_is_told(secure: SecureBroker) -> None:
    assert "refuses user 'nobody'" in refusal(secure.settings(sasl_username="nobody"))


def test_unknown_authority_is_told(secure: SecureBroker, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    message = refusal(secure.settings(ssl_ca_location=tmp_path / "other.pem"))
    assert "certificate of the broker" in message
    assert "is not trusted (unable to get local issuer certificate): check kafka.ssl_ca_location" in message


def test_certificate_for_another_host_is_told_unless_the_name_does_not_matter(secure: SecureBroker) -> None:
    elsewhere = secure.bootstrap.replace("127.0.0.1", "localhost")
    message = refusal(secure.settings(bootstrap_servers=elsewhere))
    assert "Hostname mismatch" in message
    asyncio.run(
        check_brokers(
            secure.settings(bootstrap_servers=elsewhere, ssl_endpoint_identification_algorithm="none")
        )
    )


def test_mechanism_that_the_broker_does_not_take_is_told(secure: SecureBroker) -> None:
    assert "refuses PLAIN: check kafka.sasl_mechanism" in refusal(secure.settings(sasl_mechanism="PLAIN"))


def test_no_tls_where_the_broker_wants_it_is_told(secure: SecureBroker) -> None:
    message = refusal(secure.settings(security_protocol="PLAINTEXT", connect_timeout_s=1))
    assert "kafka.security_protocol (PLAINTEXT)" in message


def test_tls_where_the_broker_has_none_is_told(bootstrap: str, secure: SecureBroker) -> None:
    message = refusal(secure.settings(bootstrap_servers=bootstrap, connect_timeout_s=1))
    assert "kafka.security_protocol (SASL_SSL)" in message


def test_nobody_at_the_address_is_told_after_the_timeout() -> None:
    started = time.monotonic()
    [port] = free_ports(1)
    kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}", connect_timeout_s=1)
    assert "(connection refused): check kafka.bootstrap_servers" in refusal(kafka)
    assert 0.7 < time.monotonic() - started < 10


def test_a_host_without_a_name_is_told() -> None:
    kafka = KafkaSettings(bootstrap_servers="no-such-host.invalid:9092", connect_timeout_s=1)
    assert "no Kafka broker answers at no-such-host.invalid:9092" in refusal(kafka)


def test_a_server_that_says_nothing_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{silent.getsockname()[1]}", connect_timeout_s=1)
        assert "(no reply in time)" in refusal(kafka)


def test_a_server_that_is_no_kafka_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{server.getsockname()[1]}", connect_timeout_s=1)
        assert "check that it is a Kafka broker" in refusal(kafka)
        server.shutdown(socket.SHUT_RDWR)


def test_one_reachable_server_of_several_is_enough(bootstrap: str) -> None:
    [port] = free_ports(1)
    asyncio.run(check_brokers(KafkaSettings(bootstrap_servers=f"127.0.0.1:{port},{bootstrap}")))


def test_a_broker_that_comes_within_the_timeout_is_waited_for(kafka: EmbeddedKafka) -> None:
    """Stands for a broker that is still starting: a door that opens late."""
    [port] = free_ports(1)
    host, broker_port = kafka.bootstrap.split(":")

    async def run() -> None:
        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            back, forth = await asyncio.open_connection(host, int(broker_port))
            await asyncio.gather(_pump(reader, forth), _pump(back, writer))

        checking = asyncio.create_task(
            check_brokers(KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}", connect_timeout_s=10))
        )
        await asyncio.sleep(0.5)
        assert not checking.done()
        async with await asyncio.start_server(pass_on, "127.0.0.1", port):
            await checking

    asyncio.run(run())


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


def test_an_advertised_address_that_can_not_be_reached_is_told(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path, advertised_host="elsewhere.invalid") as broker:
        assert broker.bootstrap.startswith("elsewhere.invalid:")
        here = broker.bootstrap.replace("elsewhere.invalid", "127.0.0.1")
        message = refusal(KafkaSettings(bootstrap_servers=here, connect_timeout_s=1))
    assert f"sends its clients on to {broker.bootstrap}, which can't be reached from here" in message


def test_answers_works_inside_a_running_loop(bootstrap: str) -> None:
    async def run() -> bool:
        return answers(bootstrap)

    assert asyncio.run(run())
