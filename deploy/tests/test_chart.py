"""The Helm chart, rendered with several sets of values and checked without a cluster."""

import json
import re
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

from deploy.chart import CHART, PLAIN, Document, documents, plain_manifests, render, value_sets
from session_service import __version__
from session_service.environment import SECRETS
from tests.support.processes import ROOT

VERSIONS = sorted(  # all from the chart's kubeVersion on
    {version for version in all_versions() if version >= "1.27"}
)
EVERY = value_sets()
WITHOUT_SCHEMA = ("ServiceMonitor",)  # of the Prometheus operator


@pytest.fixture(params=EVERY)
def values(request: pytest.FixtureRequest) -> Document:
    return EVERY[request.param]


def of_kind(kind: str, rendered: list[Document]) -> list[Document]:
    return [each for each in rendered if each["kind"] == kind]


def pod_of(rendered: list[Document]) -> Document:
    """Return the template of the pods."""
    (deployment,) = of_kind("Deployment", rendered)
    template: Document = deployment["spec"]["template"]
    return template


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def test_helm_finds_no_mistake(values: Document) -> None:
    """The chart has no error and no warning of ``helm lint --strict``."""
    report = helm_python.lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert [each["error"] for each in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(values: Document, version: str) -> None:
    """Each resource matches the strict schema of each version that the chart supports."""
    rendered = documents(values)
    assert len(rendered) >= 3
    for each in rendered:
        if each["kind"] not in WITHOUT_SCHEMA:
            kubernetes_validate.validate(each, version, strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    """The schemas refuse a field that Kubernetes does not know."""
    (service, *_) = of_kind("Service", documents({}))
    service["spec"]["prots"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="prots"):
        kubernetes_validate.validate(service, VERSIONS[0], strict=True)


def test_selectors_find_the_pods(values: Document) -> None:
    """Services, the budget, the autoscaler and the spreading refer to the Deployment's pods."""
    rendered = documents(values)
    labels = pod_of(rendered)["metadata"]["labels"]
    (deployment,) = of_kind("Deployment", rendered)
    ports = {port["name"] for port in pod_of(rendered)["spec"]["containers"][0]["ports"]}
    for service in of_kind("Service", rendered):
        assert selects(service["spec"]["selector"], labels)
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    constraints = pod_of(rendered)["spec"].get("topologySpreadConstraints", [])
    for each in [
        deployment["spec"]["selector"],
        *[budget["spec"]["selector"] for budget in of_kind("PodDisruptionBudget", rendered)],
        *[constraint["labelSelector"] for constraint in constraints],
    ]:
        assert selects(each["matchLabels"], labels)
    for scaler in of_kind("HorizontalPodAutoscaler", rendered):
        assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
        assert "replicas" not in deployment["spec"]  # or an upgrade would undo the scaling


def test_prometheus_finds_the_metrics_only() -> None:
    """The ServiceMonitor selects the Service of the metrics, which no load balancer publishes."""
    rendered = documents(EVERY["public"] | {"service": {"type": "LoadBalancer"}})
    (monitor,) = of_kind("ServiceMonitor", rendered)
    (endpoint,) = monitor["spec"]["endpoints"]
    (found,) = [
        service
        for service in of_kind("Service", rendered)
        if selects(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])
    ]
    assert found["spec"]["clusterIP"] == "None"
    assert [port["name"] for port in found["spec"]["ports"]] == [endpoint["port"]]
    (public,) = [service for service in of_kind("Service", rendered) if service != found]
    assert public["spec"]["type"] == "LoadBalancer"
    assert [port["targetPort"] for port in public["spec"]["ports"]] == ["http"]


def test_the_pods_are_restricted(values: Document) -> None:
    """The pods meet the Pod Security Standard ``restricted``, and cannot write to their image."""
    spec = pod_of(documents(values))["spec"]
    (container,) = spec["containers"]
    (user,) = re.findall(r"^USER (\d+):\d+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    pod = spec["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] == pod["runAsGroup"] == pod["fsGroup"] == int(user)
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}


def test_secrets_are_mounted(values: Document) -> None:
    """Each secret setting is the path of a key that is mounted from the Secret."""
    spec = pod_of(documents(values))["spec"]
    (container,) = spec["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    paths = {
        f"{mounts[volume['name']]}/{item['path']}"
        for volume in spec["volumes"]
        if "secret" in volume
        for item in volume["secret"]["items"]
    }
    env = {each["name"]: each.get("value") for each in container["env"]}
    assert {value for name, value in env.items() if name.endswith("_FILE")} == paths
    assert not env.keys() & set(SECRETS)
    assert all(v["secret"]["defaultMode"] == 0o440 for v in spec["volumes"] if "secret" in v)


def test_the_embedded_store_has_one_pod() -> None:
    """With the embedded store there is one pod on a volume, which ends before the next starts."""
    rendered = documents(EVERY["embedded"])
    (deployment,) = of_kind("Deployment", rendered)
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    (claim,) = of_kind("PersistentVolumeClaim", rendered)
    spec = deployment["spec"]["template"]["spec"]
    (data,) = [volume for volume in spec["volumes"] if "persistentVolumeClaim" in volume]
    assert data["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert {"name": data["name"], "mountPath": "/data"} in spec["containers"][0]["volumeMounts"]
    assert not of_kind("PodDisruptionBudget", rendered)  # it would block the drain of the node


def test_a_pod_has_time_to_stop(values: Document) -> None:
    """The grace period covers the pause before the stop, the drain, and the end of the store."""
    spec = pod_of(documents(values))["spec"]
    (container,) = spec["containers"]
    env = {each["name"]: each.get("value") for each in container["env"]}
    _, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    drain = float(env.get("SESSION_DRAIN_SECONDS", 8))
    assert spec["terminationGracePeriodSeconds"] >= int(pause) + drain + 10


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"env": {"AUTH": True}}, "/env/AUTH"),  # `AUTH: on` without quotes
        ({"env": {"SESSION_DRAIN_SECONDS": 8}}, "/env/SESSION_DRAIN_SECONDS"),
        ({"env": {"REDIS_URL": "redis://h"}}, "name its key in secret.keys.REDIS_URL"),
        ({"extraEnv": [{"name": "JWT_SECRET", "value": "x"}]}, "secret.keys.JWT_SECRET"),
        ({"env": {"PORT": "80"}}, "env.PORT is set by the chart"),
        ({"secret": {"keys": {"REDIS_PASSWORD": "password"}}}, "REDIS_PASSWORD"),
        ({"secret": {"keys": {"REDIS_URL": None}}}, "there is no store"),
        ({"env": {"SESSION_DRAIN_SECONDS": "60"}}, "must be at least 75"),
        (EVERY["embedded"] | {"autoscaling": {"enabled": True}}, "one pod only"),
        ({"ingress": {"enabled": True}}, "/ingress/hosts"),
        ({"replicas": 3}, "replicas"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
    ],
)
def test_wrong_values_are_refused(values: Document, problem: str) -> None:
    """Values that cannot work stop ``helm install`` with a message that names them."""
    with pytest.raises(helm_python.HelmError) as refused:
        render(values)
    assert problem in str(refused.value)


def test_the_documented_values_are_accepted() -> None:
    """The values in docs/deploying.md render to an Ingress for the documented host."""
    text = (ROOT / "docs/deploying.md").read_text()
    values = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    (ingress,) = of_kind("Ingress", documents(values))
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == values["ingress"]["hosts"]


def test_without_access_control_the_names_of_the_service_are_allowed() -> None:
    """The hosts of the Ingress and of the Service reach it, because others would get 403."""
    (container,) = pod_of(documents(EVERY["minimal"]))["spec"]["containers"]
    env = {each["name"]: each["value"] for each in container["env"]}
    name = "session-service-chat.chat"
    assert set(env["ALLOWED_HOSTS"].split(",")) == {
        name,
        f"{name}.svc",
        f"{name}.svc.cluster.local",
        "chat.example.org",
        "www.example.org",
    }


def test_the_notes_say_how_to_begin(values: Document) -> None:
    """After the installation, the notes name the Secret and the command that creates a key."""
    notes = render(values)["NOTES.txt"]
    if values.get("env", {}).get("AUTH") == "off":
        assert "Access control is off" in notes
    else:
        assert "session-service keys create" in notes
    assert ("get secret" in notes) is not values.get("embeddedStore", {}).get("enabled", False)


def test_the_plain_manifests_are_the_rendered_chart() -> None:
    """deploy/kubernetes/ is the chart with its default values."""
    remedy = "run build/deploy/bin/python -m deploy.chart"
    assert PLAIN.read_text() == plain_manifests(), remedy
    assert "managed-by" not in PLAIN.read_text()
    plain = list(yaml.safe_load_all(PLAIN.read_text()))
    assert [each["kind"] for each in plain] == [each["kind"] for each in documents({})]


def test_the_chart_fits_the_service() -> None:
    """The chart installs this version; its schema has all values, and names all secret settings."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    schema: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) == {"global", *values}
    assert set(
        schema["properties"]["secret"]["properties"]["keys"]["propertyNames"]["enum"]
    ) == set(SECRETS)
    for name in set(SECRETS) - {"JWT_PUBLIC_KEY"}:  # which is public
        with pytest.raises(helm_python.HelmError, match=f"secret.keys.{name}"):
            render({"env": {name: "x"}})


def test_the_documentation_names_every_value() -> None:
    """The README of the chart lists each value at the top of values.yaml."""
    readme = (CHART / "README.md").read_text()
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = "".join(re.findall(r"^\| (`.*?) \|", readme, re.MULTILINE))
    assert [name for name in values if not re.search(rf"`{name}\b", rows)] == []
