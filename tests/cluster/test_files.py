"""The files in cluster/ against the schemas of who reads them, and against the lock."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
KUBERAY = CLUSTER / "kuberay"
KUBERNETES = "1.34"
TEXTS = sorted(p for p in CLUSTER.rglob("*") if p.is_file())
# KubeRay's own definitions of version ray.io/v1, without their descriptions (Apache-2.0,
# github.com/ray-project/kuberay, ray-operator/config/crd/bases at the tag of the file's name).
DEFINITIONS = next((ROOT / "tests/golden").glob("kuberay-*.json.gz"))


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


MANIFESTS = [
    pytest.param(doc, id=f"{path.name}-{doc['kind']}-{doc['metadata']['name']}")
    for path in sorted(KUBERAY.glob("*.yaml"))
    for doc in documents(path)
]
OWN = [
    pytest.param(doc, id=f"{path.stem}-{doc['kind']}")
    for path in sorted(KUBERAY.glob("*.yaml"))
    for doc in documents(path)
    if doc["apiVersion"] == "ray.io/v1"
]


def templates(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the pod templates of a Ray cluster."""
    cluster = spec.get("rayClusterSpec", spec)
    yield cluster["headGroupSpec"]["template"]
    yield from (group["template"] for group in cluster["workerGroupSpecs"])


@pytest.mark.parametrize("doc", MANIFESTS)
def test_manifests_are_what_kubernetes_reads(doc):
    if doc["apiVersion"] == "ray.io/v1":
        for template in templates(doc["spec"]):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}
            kubernetes_validate.validate({**pod, "spec": template["spec"]}, KUBERNETES, strict=True)
    else:
        kubernetes_validate.validate(doc, KUBERNETES, strict=True)


@pytest.fixture(scope="module")
def definitions() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(DEFINITIONS.read_bytes()))
    return found


@pytest.mark.parametrize("doc", OWN)
def test_manifests_are_what_kuberay_reads(doc, definitions):
    whole = _strict(definitions[doc["kind"]])
    whole["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own
    jsonschema.validate(doc, whole)


def test_a_field_that_kuberay_does_not_know_is_refused(definitions):
    doc = json.loads(json.dumps(next(one.values[0] for one in OWN)))
    doc["spec"]["rayVersoin"] = "2.60.0"
    with pytest.raises(jsonschema.ValidationError, match="rayVersoin"):
        jsonschema.validate(doc, _strict(definitions[doc["kind"]]))


def test_manifests_name_the_version_of_the_definitions():
    version = DEFINITIONS.name.removeprefix("kuberay-").removesuffix(".json.gz")
    for path in ("kuberay/raycluster.yaml", "kuberay/rayjob.yaml", "README.md"):
        assert f"KubeRay {version}" in (CLUSTER / path).read_text()


def _strict(schema: Any) -> Any:
    """Refuse fields that the definition does not have, as the server's strict mode does."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _strict(value) for name, value in schema.items()}
    if found.pop("x-kubernetes-int-or-string", None) is True:
        found = {"type": ["integer", "string"]}
    if isinstance(found.get("properties"), dict) and "additionalProperties" not in found:
        found["additionalProperties"] = False
    return found


@pytest.mark.parametrize("doc", OWN)
def test_no_pod_is_root_and_only_the_head_has_the_password(doc):
    head, *workers = templates(doc["spec"])
    for template in (head, *workers):
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in template["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert "MLFLOW_TRACKING_PASSWORD" in json.dumps(head)
    assert "PASSWORD" not in json.dumps(workers)
    assert json.dumps(workers).count('automountServiceAccountToken": false') == len(workers)


def test_ray_reads_the_files_of_ray_up():
    from ray.autoscaler._private.util import prepare_config, validate_config

    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    cloud = yaml.safe_load((CLUSTER / "ray-up.yaml").read_text())
    jsonschema.validate(cloud, schema)
    own = prepare_config(yaml.safe_load((CLUSTER / "ray-up-onprem.yaml").read_text()))
    validate_config(own)


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.split(" ;")[0].split("==") for line in lines if "==" in line)


def test_versions_are_those_of_the_lock_and_of_the_package():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    for path in TEXTS:
        text = path.read_text()
        for found in re.findall(r"rayVersion: \"?([\d.]+)", text):
            assert found == pins()["ray"].strip(), path
        for found in re.findall(r"cryo-hpo:([\w.]+)", text):
            assert found == version[1], path
        for found in re.findall(r"KubeRay (\d[\d.]*\d)", text):
            assert found == "1.6.2", path
        assert not re.search(r"image:.*:latest|image: [^:\s]+$", text, re.M), path


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(CLUSTER)))
def test_every_way_asks_for_a_token_and_opens_nothing(path):
    text = path.read_text()
    assert not re.search(r"0\.0\.0\.0|--host[= ]['\"]?(::|\*)", text)
    starts = re.findall(r"^(?!\s*#).*ray start.*$", text, re.M)
    if starts:
        assert "RAY_AUTH_MODE=token" in text or "authOptions: {mode: token}" in text, path
    if "mlflow server" in text and path.name != "local.sh":
        assert "basic-auth" in text or path.suffix == ".md", path
    assert not re.search(r"(password|secret|token)\s*[:=]\s*['\"]?[0-9a-zA-Z]{12,}", text, re.I), (
        path
    )


def test_the_image_is_nobody_s_root():
    lines = (CLUSTER / "Dockerfile").read_text().splitlines()
    users = [line for line in lines if line.startswith("USER")]
    assert users == ["USER 1000:1000"]
    assert any("requirements.lock" in line and line.startswith("RUN") for line in lines)


def test_the_unit_and_the_compose_file_start_the_same_server():
    unit = (CLUSTER / "mlflow/mlflow.service").read_text()
    compose = yaml.safe_load((CLUSTER / "mlflow/compose.yaml").read_text())
    server = compose["services"]["mlflow"]
    for text in (unit, server["command"]):
        assert "--app-name basic-auth" in text
        assert "--allowed-hosts" in text
    assert server["ports"] == ["127.0.0.1:5000:5000"]
    assert compose["services"]["database"]["image"].startswith("postgres:17")
    needed = set(re.findall(r"\$\{(\w+):\?", (CLUSTER / "mlflow/compose.yaml").read_text()))
    given = re.findall(r"^(\w+)=", (CLUSTER / "mlflow/example.env").read_text(), re.M)
    assert needed == set(given)


def test_git_leaves_the_server_s_passwords_out():
    words = ["git", "check-ignore", "cluster/mlflow/.env"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, "compose.yaml says that git ignores its .env"


def test_systemd_reads_every_line_of_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed: apt-get install systemd")
    text = (CLUSTER / "mlflow/mlflow.service").read_text()
    there = text.replace(
        "/opt/cryo_hpo/.venv/bin/mlflow", str(Path(sys.executable).parent / "mlflow")
    )
    (tmp_path / "mlflow.service").write_text(there)
    words = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "mlflow.service")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "mlflow.service" in line]
    assert (done.returncode, said) == (0, []), "a key that systemd does not know is ignored"
