"""The Compose file: what its schema takes, whose files are there, and whose parts know each other by the right names.

No engine is asked here; CI starts it.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.settings import load
from proxy.simulator.server import DEFAULT_KEY
from tests.process import PATIENCE, ROOT

FILE = ROOT / "deploy" / "compose" / "compose.yml"
DOCUMENT = yaml.safe_load(FILE.read_text())
SERVICES: Mapping[str, Mapping[str, Any]] = DOCUMENT["services"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "talon-proxy"]
PROXY = SERVICES["proxy"]["environment"]


def mounts(service: str) -> Mapping[str, Path]:
    """Give what a service sees where, by its path there; all of it for reading only."""
    found = {}
    for volume in SERVICES[service]["volumes"]:
        here, there, mode = volume.split(":")
        assert mode == "ro"
        found[there] = (FILE.parent / here).resolve()
    return found


def test_it_is_valid() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_what_is_mounted_is_there(service: str) -> None:
    for there, path in mounts(service).items():
        assert path.exists(), path
        assert path.name == Path(there).name


def test_secrets_and_the_build_are_there() -> None:
    for secret in DOCUMENT["secrets"].values():
        assert (FILE.parent / secret["file"]).is_file()
    assert (FILE.parent / SERVICES["proxy"]["build"]["context"] / "Dockerfile").is_file()


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_nothing_is_published_beyond_this_machine(service: Mapping[str, Any]) -> None:
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_an_image_is_built_here_or_of_one_version(service: Mapping[str, Any]) -> None:
    _, _, tag = service["image"].partition(":")

    assert tag.count(".") == 2 or "build" in service or service["pull_policy"] == "never"


@pytest.mark.parametrize("name", OURS)
def test_our_containers_may_do_little(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_proxy_takes_its_settings_and_stops_in_time(tmp_path: Path) -> None:
    key = tmp_path / "talon-one"
    key.write_text((FILE.parent / DOCUMENT["secrets"]["talon-one"]["file"]).read_text())
    key.chmod(0o600)

    settings = load([], PROXY | {"TALON_PROXY_API_KEY_FILE": str(key)}).settings

    assert PROXY["TALON_PROXY_API_KEY_FILE"] == f"/run/secrets/{SERVICES['proxy']['secrets'][0]}"
    assert float(SERVICES["proxy"]["stop_grace_period"].removesuffix("s")) > settings.shutdown.timeout
    published = {port.split(":")[2] for port in SERVICES["proxy"]["ports"]}
    assert published == {str(address.port) for address in (*settings.listen, *settings.admin.listen)}


def test_the_proxy_calls_the_simulator_with_its_key() -> None:
    command = SERVICES["simulator"]["command"]
    listens = command[command.index("--listen") + 1]

    assert PROXY["TALON_PROXY_UPSTREAM__URL"] == f"http://simulator:{listens.rpartition(':')[2]}"
    assert (FILE.parent / "talon-one.key").read_text().strip() == DEFAULT_KEY
    assert f"127.0.0.1:{listens.rpartition(':')[2]}/-/health" in SERVICES["simulator"]["healthcheck"]["test"][-1]


def test_prometheus_scrapes_the_proxy_by_a_name_it_answers_to() -> None:
    there = mounts("prometheus")
    configuration = yaml.safe_load(there["/etc/prometheus/prometheus.yml"].read_text())
    [job] = configuration["scrape_configs"]

    assert job["static_configs"] == [{"targets": ["proxy:7411"]}]
    assert PROXY["TALON_PROXY_ADMIN__HOSTS"] == "proxy"
    assert {f"/etc/prometheus/{name}" for name in configuration["rule_files"]} <= set(there)


def test_prometheus_is_set_up_as_anywhere_but_for_the_address() -> None:
    def but_for_the_address(file: Path) -> Any:
        document = yaml.safe_load(file.read_text())
        [job] = document["scrape_configs"]
        assert job.pop("static_configs")
        return document

    here = but_for_the_address(FILE.parent / "prometheus.yml")

    assert here == but_for_the_address(ROOT / "deploy" / "prometheus" / "prometheus.yml")


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    there = mounts("grafana")
    provisioning = there["/etc/grafana/provisioning"]
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((provisioning / "dashboards" / "talon-proxy.yml").read_text())["providers"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert source["url"] == "http://prometheus:9090"
    assert home in there
    assert Path(home).parent == Path(provider["options"]["path"])
