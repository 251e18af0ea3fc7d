"""Alerts, runbooks, dashboard and provisioning: complete, and in step with each other."""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs/runbooks"
PROMETHEUS = ROOT / "deploy/prometheus"
GRAFANA = ROOT / "deploy/grafana"
DASHBOARD = GRAFANA / "dashboards/session-service.json"
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
COLUMNS = 24  # of a dashboard


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def rules(file: str) -> list[dict[str, Any]]:
    """Return the rules of all groups of a file, e.g. ``alerts.yml``."""
    return [rule for group in load(PROMETHEUS / file)["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard, without the headings of its rows."""
    found = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def test_every_alert_is_explained() -> None:
    """An alert has a severity, a summary, a description and its runbook page."""
    for rule in rules("alerts.yml"):
        assert rule["labels"]["severity"] in ("critical", "warning")
        notes = rule["annotations"]
        assert set(notes) == {"summary", "description", "runbook_url"}, rule["alert"]
        assert notes["summary"].endswith(".")
        assert notes["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"


def test_every_alert_has_a_runbook_page() -> None:
    """Each page has the four sections, each with a text, and belongs to an alert."""
    alerts = {rule["alert"] for rule in rules("alerts.yml")}
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == alerts
    for alert in alerts:
        text = (RUNBOOKS / f"{alert}.md").read_text("utf-8")
        title, *sections = re.split(r"^#+ (.*)$\n", text, flags=re.MULTILINE)[1::2]
        bodies = re.split(r"^#+ .*$\n", text, flags=re.MULTILINE)[2:]
        assert (title, sections) == (alert, SECTIONS)
        assert all(len(body.split()) > 5 for body in bodies), alert


def test_every_alert_has_a_test_that_fires_and_one_that_does_not() -> None:
    """For each alert there is a rule test that expects it, and one that expects none."""
    expected = defaultdict(set)
    for file in (PROMETHEUS / "tests").glob("*.yml"):
        for test in load(file)["tests"]:
            for check in test["alert_rule_test"]:
                expected[check["alertname"]].add(bool(check["exp_alerts"]))
    assert expected == {rule["alert"]: {True, False} for rule in rules("alerts.yml")}


def test_alerts_use_recorded_series() -> None:
    """A recorded series that an alert or a panel names is one of the recording rules."""
    recorded = {rule["record"] for rule in rules("rules.yml")}
    texts = [rule["expr"] for rule in rules("alerts.yml")]
    texts += [target["expr"] for panel in panels() for target in panel["targets"]]
    named = set(re.findall(r"\bjob:\w+:\w+", " ".join(texts)))
    assert named
    assert named <= recorded


def test_the_dashboard_is_well_formed() -> None:
    """Panels have ids and queries of their own, do not overlap, and use the chosen data source."""
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    assert dashboard["schemaVersion"] >= 39
    assert dashboard["uid"]
    assert dashboard["title"]
    variables = {each["name"]: each["type"] for each in dashboard["templating"]["list"]}
    assert variables == {"datasource": "datasource", "job": "query"}
    assert max(Counter(panel["id"] for panel in dashboard["panels"]).values()) == 1
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert max(Counter(target["refId"] for target in panel["targets"]).values()) == 1
        for target in panel["targets"]:
            assert 'job=~"$job"' in target["expr"]


def test_compose_provides_the_files() -> None:
    """Compose mounts files that exist, and Prometheus scrapes services that compose has."""
    services = load(ROOT / "docker-compose.yml")["services"]
    mounts = [mount for each in services.values() for mount in each.get("volumes", ())]
    sources = [mount.partition(":")[0] for mount in mounts if mount.startswith("./")]
    assert "./deploy/prometheus" in sources
    assert all((ROOT / source).exists() for source in sources)
    (scrape,) = load(PROMETHEUS / "prometheus.yml")["scrape_configs"]
    (found,) = scrape["dns_sd_configs"]
    built = {name: each for name, each in services.items() if "build" in each}
    assert set(found["names"]) == set(built)
    assert {each["environment"]["METRICS_PORT"] for each in built.values()} == {str(found["port"])}
    (source,) = load(GRAFANA / "provisioning/datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = load(GRAFANA / "provisioning/dashboards/session-service.yml")["providers"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in mounts
