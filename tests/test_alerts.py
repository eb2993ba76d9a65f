"""The alerts: their page says what the rules say, and promtool's unit tests see each of them quiet and firing."""

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.talon.checklist.rule import Severity
from proxy.talon.checklist.table import RULES as CHECKLIST
from proxy.talon.operations import OPERATIONS, Kind
from tests.alerts import OPERATED, PAGE, Alert, alerts, operated, page
from tests.process import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
UNIT_TESTS = yaml.safe_load((FOLDER / "tests.yml").read_text())["tests"]
ALERTS = list(alerts())
NAMED = re.compile(r'ALERTS\{[^}]*alertname=(~?)"([^"]+)"')

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="the promtool program is not there")


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- the page -------------------------------------------------------------------------------------------------


def test_the_page_says_what_the_rules_say() -> None:
    assert PAGE.read_text() == page(PAGE.read_text()), "make docs"


def test_the_operator_gets_the_same_rules() -> None:
    assert OPERATED.read_text() == operated(), "make docs"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_says_what_it_means_and_what_to_do(alert: Alert) -> None:
    assert set(alert.annotations) == {"summary", "description", "action"}
    assert all(alert.annotations.values())
    assert alert.severity in ("critical", "warning")
    assert "<" not in alert.row
    assert alert.row.count(" | ") == 4, "a bar would begin a new column"


def test_what_an_alert_points_to_is_there() -> None:
    actions = " ".join(alert.annotations["action"] for alert in ALERTS)
    names = {alert.name for alert in ALERTS}
    dashboard = (ROOT / "deploy" / "grafana" / "talon-proxy.json").read_text()
    headings = re.findall(r"^#+ (.+)$", (ROOT / "deploy" / "README.md").read_text(), re.MULTILINE)

    assert set(re.findall(r"TalonProxy\w+", actions)) <= names
    pages = re.findall(r'deploy/README\.md, "([^"]+)"', actions)
    assert pages
    assert set(pages) <= set(headings)
    panels = set(re.findall(r'"([^"]+)"', actions)) - set(pages)
    assert panels
    assert all(f'"title": "{panel}"' in dashboard for panel in panels)


def test_reads_are_no_unknown_outcomes_that_anybody_is_told_of() -> None:
    [alert] = (alert for alert in ALERTS if alert.name == "TalonProxyUnknownOutcomes")
    found = re.search(r'operation=~"([^"]+)"', alert.expression)
    assert found is not None

    left_out = {operation.name for operation in OPERATIONS if re.fullmatch(found[1], operation.name)}

    assert left_out == {operation.name for operation in OPERATIONS if operation.kind is Kind.READ}


def test_a_tenth_is_more_than_may_break_a_rule_that_anybody_is_told_of() -> None:
    [alert] = (alert for alert in ALERTS if alert.name == "TalonProxyChecklistBroken")
    found = re.search(r'rule!~"([^"]+)"', alert.expression)
    assert found is not None

    asked = [rule for rule in CHECKLIST if rule.id != "relocation.ready"]  # is not counted by calls
    left_out = {rule.id for rule in asked if re.fullmatch(found[1], rule.id)}

    lenient = {rule.id for rule in asked if rule.severity is Severity.ADVICE or rule.tolerated >= 0.1}
    assert left_out == {*lenient, "connections.bypass"}, "it may be another replica"
    assert all(rule.least <= 100 and rule.times <= 10 for rule in asked if rule.id not in left_out)


# --- promtool -------------------------------------------------------------------------------------------------


@needs_promtool
def test_rules_are_good() -> None:
    assert "19 rules found" in promtool("check", "rules", "alerts.yml")
    promtool("check", "rules", "recording.yml")


@needs_promtool
def test_rules_do_what_their_unit_tests_say() -> None:
    promtool("test", "rules", "tests.yml")


def expectations() -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Give what is expected of alerts: a name, and the samples at a moment; no samples: it is quiet."""
    for test in UNIT_TESTS:
        for expected in test["promql_expr_test"]:
            if found := NAMED.search(expected["expr"]):
                matched = (alert.name for alert in ALERTS if re.fullmatch(found[2], alert.name))
                yield from ((name, expected["exp_samples"]) for name in matched)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_is_seen_quiet_and_firing(alert: Alert) -> None:
    expected = [samples for name, samples in expectations() if name == alert.name]

    assert {bool(samples) for samples in expected} == {True, False}
    for sample in itertools.chain(*expected):
        labels = set(re.findall(r'(\w+)="', sample["labels"]))
        assert f'severity="{alert.severity}"' in sample["labels"]
        assert alert.labels <= labels, "its text names a label that it does not have"


# --- scrape configurations ------------------------------------------------------------------------------------


@needs_promtool
@pytest.mark.parametrize("file", ["prometheus.yml", "../compose/prometheus.yml"])
def test_a_whole_configuration_is_good(file: str, tmp_path: Path) -> None:
    # The rules are mounted beside it.
    for path in (FOLDER / file, FOLDER / "recording.yml", FOLDER / "alerts.yml"):
        shutil.copy(path, tmp_path)

    promtool("check", "config", str(tmp_path / Path(file).name))


@needs_promtool
def test_the_job_for_kubernetes_makes_a_fleet_of_a_shop(tmp_path: Path) -> None:
    """Debian's Prometheus knows no Kubernetes: it is told what Kubernetes would say of a pod."""
    document = yaml.safe_load((FOLDER / "scrape-kubernetes.yml").read_text())
    [job] = document["scrape_configs"]
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    pod = {
        "__meta_kubernetes_namespace": "shops",
        "__meta_kubernetes_pod_name": "shop-1",
        "__meta_kubernetes_pod_phase": "Running",
        "__meta_kubernetes_pod_label_app_kubernetes_io_name": "shop",
        "__meta_kubernetes_pod_container_port_name": "talon-metrics",
    }
    pods = [
        pod,
        pod | {"__meta_kubernetes_pod_container_port_name": "http"},
        pod | {"__meta_kubernetes_pod_phase": "Succeeded"},
    ]
    job["static_configs"] = [
        {"targets": [f"10.0.0.{number}:7411"], "labels": labels} for number, labels in enumerate(pods)
    ]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(document))

    # It takes all the time it is given.
    found = json.loads(
        promtool("check", "service-discovery", "--timeout=1s", str(tmp_path / "prometheus.yml"), "talon-proxy")
    )

    kept = [target["labels"] for target in found if target["labels"]]
    assert [(labels["job"], labels["namespace"], labels["pod"], labels["instance"]) for labels in kept] == [
        ("talon-proxy/shops/shop", "shops", "shop-1", "10.0.0.0:7411")
    ]
