"""Settings become what aiokafka's clients take; files that can't be used are named."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from streamer.errors import UsageError
from streamer.kafka.client import client_arguments
from streamer.settings import KafkaSettings


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, Any]:
    """Settings for TLS with a certificate of our own."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own = authority.issue_cert("client")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "own.pem")
    return {
        "security_protocol": "SSL",
        "ssl_ca_location": tmp_path / "ca.pem",
        "ssl_certificate_location": tmp_path / "own.pem",
        "ssl_key_location": tmp_path / "key.pem",
    }


def refused(settings: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        client_arguments(KafkaSettings.model_validate(settings))
    return str(caught.value)


def test_plain_settings_name_servers_and_nothing_secret() -> None:
    arguments = client_arguments(KafkaSettings(bootstrap_servers="a:1,b:2", client_id="me"))
    assert arguments == {
        "bootstrap_servers": "a:1,b:2",
        "client_id": "me",
        "request_timeout_ms": 30_000,
        "security_protocol": "PLAINTEXT",
    }


def test_password_is_handed_on_in_clear() -> None:
    kafka = KafkaSettings.model_validate(
        {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "me", "sasl_password": "s3cret"}
    )
    arguments = client_arguments(kafka)
    assert (arguments["sasl_plain_username"], arguments["sasl_plain_password"]) == ("me", "s3cret")
    assert arguments["sasl_mechanism"] == "SCRAM-SHA-512"


def test_tls_checks_certificate_and_host_name(certificate: dict[str, Any]) -> None:
    context = client_arguments(KafkaSettings.model_validate(certificate))["ssl_context"]
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_host_name_check_can_be_left_out_but_the_certificate_check_stays(
    certificate: dict[str, Any],
) -> None:
    settings = certificate | {"ssl_endpoint_identification_algorithm": "none"}
    context = client_arguments(KafkaSettings.model_validate(settings))["ssl_context"]
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert not context.check_hostname


@pytest.mark.parametrize("key", ["ssl_ca_location", "ssl_certificate_location", "ssl_key_location"])
def test_a_missing_file_is_named_with_its_key(certificate: dict[str, Any], key: str, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    assert refused(certificate | {key: missing}) == f"kafka.{key} = {missing}: no such file"


@pytest.mark.parametrize("key", ["ssl_ca_location", "ssl_certificate_location", "ssl_key_location"])
def test_a_file_that_is_no_pem_is_named_with_its_key(
    certificate: dict[str, Any], key: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.pem").write_text("no pem")
    message = refused(certificate | {key: tmp_path / "broken.pem"})
    assert f"kafka.{key} = {tmp_path / 'broken.pem'}" in message
    assert "not usable PEM" in message
