"""The Helm chart: what it renders is valid for Kubernetes, and runs the commands as they are.

Needs `helm` and the package kubernetes-validate, which `make chart` installs; skipped without them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from typing import Any

import pytest
import yaml

from streamer.settings import Settings, load_settings
from tests.conftest import ROOT

CHART = ROOT / "deploy/helm/clicks-to-intent"
HELM = shutil.which("helm") or shutil.which("helm", path=str(ROOT / ".venv/bin"))
KUBERNETES = ("1.27.0", "1.37.0")
CREDENTIALS = {
    "kafka.sasl_password": {"name": "kafka", "key": "password"},
    "serve.tokens": {"name": "tokens", "key": "tokens"},
    "ui.token": {"name": "tokens", "key": "ui"},
}
VARIABLES = [
    {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"},
    {
        "name": "OTEL_EXPORTER_OTLP_HEADERS",
        "valueFrom": {"secretKeyRef": {"name": "collector", "key": "headers"}},
    },
]
EVERYTHING: dict[str, Any] = {
    "settings": {
        "kafka": {
            "bootstrap_servers": "a:9092,b:9092",
            "security_protocol": "SASL_SSL",
            "sasl_username": "streamer",
        },
        "session": {"end_events": ["logout", 'say "bye"']},
        "sink": {"redis": {"url": "redis://redis:6379/0"}, "max_age_s": 60},
    },
    "secrets": CREDENTIALS,
    "extraEnv": VARIABLES,
    "imagePullSecrets": [{"name": "registry"}],
    "worker": {"stages": "clicks", "args": ["--accept-rules"], "nodeSelector": {"pool": "streams"}},
    "networkPolicy": {
        "enabled": True,
        "metricsFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
    },
    "monitoring": {"podMonitor": True, "rules": True, "labels": {"release": "prometheus"}},
    "autoscaling": {"enabled": True, "authenticationRef": "kafka"},
    **{component: {"enabled": True} for component in ("identity", "serve", "sink", "ui")},
}
pytestmark = pytest.mark.skipif(HELM is None, reason="no helm: make chart")


def helm(*arguments: str, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    assert HELM is not None
    return subprocess.run(
        [HELM, *arguments, "--values", "-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
    )


def template(values: dict[str, Any], release: str = "bank") -> subprocess.CompletedProcess[str]:
    return helm("template", release, str(CHART), "--kube-version", KUBERNETES[-1], values=values)


def rendered(values: dict[str, Any], release: str = "bank") -> list[dict[str, Any]]:
    done = template(values, release)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def containers(objects: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pod specs with their container."""
    pods = [each["spec"]["template"]["spec"] for each in objects if "template" in each.get("spec", {})]
    return [(pod, container) for pod in pods for container in pod["containers"]]


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_helm_finds_no_fault(values: dict[str, Any]) -> None:
    done = helm("lint", "--strict", str(CHART), values=values)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_kubernetes_takes_every_object(values: dict[str, Any], version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="no kubernetes-validate: make chart")
    for each in rendered(values):
        if "." not in each["apiVersion"] or each["apiVersion"].endswith("k8s.io/v1"):
            validate.validate(each, version, strict=True)


def test_the_settings_are_those_of_the_values(tmp_path: Any) -> None:
    found = [each["data"]["streamer.toml"] for each in rendered(EVERYTHING) if each["kind"] == "ConfigMap"]
    assert len(found) == 2
    assert found[0] == found[1]
    file = tmp_path / "streamer.toml"
    file.write_text(found[0])
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    settings = load_settings(file, environ={"STREAMER_KAFKA__SASL_PASSWORD_FILE": str(secret)})
    assert settings.session.end_events == ("logout", 'say "bye"')
    assert (settings.sink.redis.url, settings.sink.max_age_s) == ("redis://redis:6379/0", 60)
    assert tomllib.loads(found[0])["kafka"] == EVERYTHING["settings"]["kafka"]


def test_variables_name_settings_that_are_there() -> None:
    names = {
        variable["name"]
        for _, container in containers(rendered(EVERYTHING))
        for variable in container["env"]
        if not variable["name"].endswith("_FILE") and variable not in VARIABLES
    }
    values = {name: "1" for name in names if name.endswith("PORT")}
    values |= dict.fromkeys(names - set(values), "x")
    assert load_settings(environ=values) != Settings()


def test_every_pod_runs_without_rights_and_reads_its_secrets_from_files() -> None:
    found = containers(rendered(EVERYTHING))
    assert len(found) == 6
    for pod, container in found:
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["args"][:2] == ["--config", "/etc/streamer/streamer.toml"]
        secrets = next(volume for volume in pod["volumes"] if volume["name"] == "secrets")
        sources = secrets["projected"]["sources"]
        paths = {item["path"] for source in sources for item in source["secret"]["items"]}
        files = {each["value"] for each in container["env"] if each["name"].endswith("_FILE")}
        assert files == {f"/run/secrets/streamer/{path}" for path in paths}
        assert paths == set(CREDENTIALS)


def test_every_container_has_the_variables_that_are_added() -> None:
    for values in (EVERYTHING, {"extraEnv": VARIABLES}):
        found = containers(rendered(values))
        assert found
        assert all(container["env"][-len(VARIABLES) :] == VARIABLES for _, container in found)


def test_a_worker_keeps_its_place_in_the_group() -> None:
    for each in rendered(EVERYTHING):
        if each["kind"] == "StatefulSet":
            (container,) = each["spec"]["template"]["spec"]["containers"]
            instance = next(v for v in container["env"] if v["name"] == "STREAMER_APP__INSTANCE_ID")
            assert instance["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


def test_selectors_select_their_own_pods_only() -> None:
    objects = rendered(EVERYTHING)
    labels = [
        each["spec"]["template"]["metadata"]["labels"]
        for each in objects
        if "template" in each.get("spec", {})
    ]
    for each in objects:
        if each["kind"] in ("StatefulSet", "Deployment", "PodDisruptionBudget"):
            wanted = each["spec"]["selector"]["matchLabels"].items()
        elif each["kind"] == "Service":
            wanted = each["spec"]["selector"].items()
        else:
            continue
        assert sum(wanted <= label.items() for label in labels) == 1, each["metadata"]["name"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"serve": {"enabled": True}}, "expected secrets with serve.tokens"),
        ({"ui": {"enabled": True}}, "expected secrets with ui.token"),
        ({"identity": {"enabled": True}}, "expected worker.stages: clicks"),
    ],
)
def test_what_would_not_start_is_refused(values: dict[str, Any], message: str) -> None:
    done = template(values)
    assert done.returncode != 0
    assert message in done.stderr


def test_the_alerts_are_those_that_the_code_has() -> None:
    made = (ROOT / "deploy/prometheus/streamer.rules.yml").read_text()
    assert (CHART / "files/streamer.rules.yml").read_text() == made
    rule = next(each for each in rendered(EVERYTHING) if each["kind"] == "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(made)


def test_the_plain_manifests_are_what_the_defaults_render() -> None:
    plain = [
        each for each in yaml.safe_load_all((ROOT / "deploy/kubernetes/streamer.yaml").read_text()) if each
    ]
    assert plain == rendered({}, release="streamer")
