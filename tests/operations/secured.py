"""A broker that asks for everything: TLS, a client certificate, a password, and permissions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from streamer.kafka.acls import ROLES, Acl, Role
from streamer.kafka.embedded import EmbeddedKafka
from streamer.kafka.reach import connection
from streamer.settings import KafkaSettings, Settings, load_settings

PASSWORD = "Tr0ub4dor-and-3"
KEY_PASSWORD = "battery-staple"
SECRETS = (PASSWORD, KEY_PASSWORD, "VHIwdWI0ZG9y")
"""The last one is how the password begins in base64."""
_RESOURCES = {"topic": 2, "group": 3, "transactional-id": 5}
_PATTERNS = {"literal": 3, "prefixed": 4}
_OPERATIONS = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Delete": 6,
    "Alter": 7,
    "Describe": 8,
    "DescribeConfigs": 10,
}
_ALLOW = 3
_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@dataclass(frozen=True)
class Secured:
    broker: EmbeddedKafka
    folder: Path

    def settings(self, role: str, names: dict[str, str], **changed: object) -> Settings:
        """What a client of this role is configured with."""
        right: dict[str, object] = {
            "kafka.bootstrap_servers": self.broker.bootstrap,
            "kafka.security_protocol": "SASL_SSL",
            "kafka.sasl_username": role,
            "kafka.sasl_password_file": str(self.folder / "password"),
            "kafka.ssl_ca_location": str(self.folder / "ca.pem"),
            "kafka.ssl_certificate_location": str(self.folder / "client.pem"),
            "kafka.ssl_key_location": str(self.folder / "client.key"),
            "kafka.ssl_key_password": KEY_PASSWORD,
            "kafka.connect_timeout_s": 5,
        }
        own = {f"kafka.{key}": value for key, value in changed.items()}
        return load_settings(overrides=right | names | own, environ={})

    def allow(self, role: str, acls: Iterable[Acl]) -> None:
        asyncio.run(self._send([CreateAclsRequest(*_spelt(role, acl), _ALLOW) for acl in acls]))

    def forbid(self, role: str, acl: Acl) -> None:
        asyncio.run(self._send([DeleteAclsRequest(*_spelt(role, acl), _ALLOW)]))

    async def _send(self, requests: list[Any]) -> None:
        async with connection(KafkaSettings(bootstrap_servers=self.broker.internal)) as link:
            for request in requests:
                await link.send(request)
        await asyncio.sleep(0.1)  # the broker applies them from its own log


def _spelt(role: str, acl: Acl) -> tuple[object, ...]:
    return (
        *(_RESOURCES[acl.resource], acl.name, _PATTERNS[acl.pattern], f"User:{role}", "*"),
        _OPERATIONS[acl.operation],
    )


@contextmanager
def secured_broker(folder: Path) -> Iterator[Secured]:
    """Its internal address needs nothing and may do everything: for setting up."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    (folder / "password").write_text(f"{PASSWORD}\n")
    _write_client(folder, authority.issue_cert("client.example"))
    server = authority.issue_cert("127.0.0.1")
    chain = "".join(part.bytes().decode() for part in server.cert_chain_pems)
    (folder / "broker.pem").write_text(_key(server, NoEncryption()).decode() + chain)
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "listener.name.client.ssl.client.auth": "required",
        "listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.client.scram-sha-512.sasl.jaas.config": _MODULE,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    users = [
        word
        for role in (*ROLES, "nobody")
        for word in ("--add-scram", f"SCRAM-SHA-512=[name={role},password={PASSWORD}]")
    ]
    with EmbeddedKafka(
        folder / "data", protocol="SASL_SSL", properties=properties, format_options=users
    ) as broker:
        yield Secured(broker, folder)


def _write_client(folder: Path, certificate: trustme.LeafCert) -> None:
    (folder / "client.pem").write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
    (folder / "client.key").write_bytes(_key(certificate, BestAvailableEncryption(KEY_PASSWORD.encode())))


def _key(certificate: trustme.LeafCert, encryption: Any) -> bytes:
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def every_acl(settings: Settings) -> list[tuple[Role, Acl]]:
    """Each permission of each role."""
    from streamer.kafka.acls import acls_of

    return [(role, acl) for role in ROLES for acl in acls_of(role, settings)]
