"""The manifests: strictly what the schemas of Kubernetes take, and what they name is there.

No cluster is asked. The schemas are those of kubernetes-validate, which has them of every version; the patches are
applied as kustomize would (`tests/manifests.py`).
"""

import copy
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from proxy.settings import Settings, load
from tests.manifests import FOLDER, Manifest, built, containers, documents, merged, patched, pod_of, workloads
from tests.overload.figures import CALL, CONNECTION, SESSION
from tests.process import PATIENCE, ROOT

NEWEST = kubernetes_validate.latest_version()
EXAMPLE, SHARED = FOLDER / "example", FOLDER / "shared"
NATIVE, ORDINARY = FOLDER / "sidecar", FOLDER / "sidecar-before-1.29"
SECRETS = "/run/secrets/talon-one"
IDLE = 70_000_000  # bytes
PROBES = {"/livez", "/readyz", "/startupz"}
# Of the Prometheus Operator's own type, which no schema of Kubernetes has: what its API reference says of the fields
# that are used here, and no others.
POD_MONITOR = yaml.safe_load("""
type: object
additionalProperties: false
required: [apiVersion, kind, metadata, spec]
properties:
  apiVersion: {const: monitoring.coreos.com/v1}
  kind: {const: PodMonitor}
  metadata: {type: object, required: [name]}
  spec:
    type: object
    additionalProperties: false
    required: [selector, podMetricsEndpoints]
    properties:
      selector:
        type: object
        additionalProperties: false
        required: [matchLabels]
        properties:
          matchLabels: {type: object, additionalProperties: {type: string}}
      podMetricsEndpoints:
        type: array
        minItems: 1
        items:
          type: object
          additionalProperties: false
          required: [port]
          properties:
            port: {type: string}
            interval: {type: string, pattern: '^\\d+(ms|s|m|h)$'}
            relabelings:
              type: array
              items:
                type: object
                additionalProperties: false
                properties:
                  sourceLabels: {type: array, items: {type: string, pattern: '^[a-zA-Z_][a-zA-Z0-9_]*$'}}
                  separator: {type: string}
                  targetLabel: {type: string}
                  replacement: {type: string}
                  regex: {type: string}
                  action: {enum: [replace, keep, drop]}
""")


def shop() -> Manifest:
    """A Deployment that has nothing to do with us yet, but for the label."""
    [deployment] = documents(EXAMPLE / "shop.yml")
    return deployment


def before() -> Manifest:
    """The same with an ordinary sidecar."""
    return patched(shop(), ORDINARY)


ALL = {
    "example": built(EXAMPLE),
    "example in plain": documents(FOLDER / "plain.yml"),
    "shared": built(SHARED),
    "before 1.29": [before()],
}


def each() -> Iterator[Any]:
    for name, manifests in ALL.items():
        for manifest in manifests:
            yield pytest.param(manifest, id=f"{name}: {manifest['kind']} {manifest['metadata']['name']}")


def ours() -> Iterator[Any]:
    """Give the containers that run this proxy, each with its pod."""
    for name, manifests in ALL.items():
        for workload in workloads(manifests):
            for container in containers(workload):
                if container["name"] == "talon-proxy":
                    yield pytest.param(workload, container, id=f"{name}: {workload['metadata']['name']}")


# --- schemas --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manifest", list(each()))
def test_a_manifest_is_valid(manifest: Manifest) -> None:
    if manifest["kind"] == "PodMonitor":
        jsonschema.validate(manifest, POD_MONITOR)
    else:
        kubernetes_validate.validate(manifest, NEWEST, strict=True)


@pytest.mark.parametrize(
    ("manifest", "version"),
    [
        pytest.param(patched(shop(), NATIVE), "1.29", id="native sidecar, the first version that has it"),
        pytest.param(before(), "1.25", id="ordinary sidecar, an old version"),
    ],
)
def test_a_sidecar_is_valid_where_it_is_meant_for(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_a_wrong_manifest_is_found() -> None:
    manifest = patched(shop(), NATIVE)
    pod_of(manifest)["initContainers"][0]["livenesProbe"] = {}

    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        kubernetes_validate.validate(manifest, NEWEST, strict=True)


# --- patches --------------------------------------------------------------------------------------------------


def test_a_native_sidecar_starts_first_and_leaves_the_shop_as_it_was() -> None:
    plain = shop()
    pod_of(plain)["initContainers"] = [{"name": "migrate", "image": "shop:1.0.0"}]

    with_sidecar = patched(copy.deepcopy(plain), NATIVE)

    first, second = pod_of(with_sidecar)["initContainers"]
    assert (first["name"], first["restartPolicy"], second) == (
        "talon-proxy",
        "Always",
        pod_of(plain)["initContainers"][0],
    )
    assert pod_of(with_sidecar)["containers"] == pod_of(plain)["containers"]
    assert with_sidecar["metadata"]["name"] == "shop"
    assert with_sidecar["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] == "shop"
    assert with_sidecar["spec"]["selector"] == plain["spec"]["selector"]


def test_an_ordinary_sidecar_starts_before_the_shop() -> None:
    first, second = pod_of(before())["containers"]

    assert (first["name"], second) == ("talon-proxy", pod_of(shop())["containers"][0])
    # The kubelet starts the next container when this has ended.
    assert first["lifecycle"]["postStart"]["exec"]["command"] == [
        "python",
        "-P",
        "-m",
        "proxy",
        "ready",
        "--wait",
        "30s",
    ]


def test_a_deployment_without_the_label_stays_as_it_is() -> None:
    plain = shop()
    plain["metadata"]["labels"] = {}

    assert patched(copy.deepcopy(plain), NATIVE) == plain


def test_both_sidecars_are_the_same_but_for_how_they_start() -> None:
    [native] = pod_of(documents(NATIVE / "patch.yml")[0])["initContainers"]
    [ordinary] = pod_of(documents(ORDINARY / "patch.yml")[0])["containers"]
    native.pop("restartPolicy")
    ordinary.pop("lifecycle")

    assert native == ordinary


def test_a_merge_replaces_what_is_there_by_its_key() -> None:
    onto = {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "args": ["a"]}

    assert merged(onto, {"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}], "args": ["b"]}) == {
        "env": [{"name": "C", "value": "4"}, {"name": "A", "value": "1"}, {"name": "B", "value": "3"}],
        "args": ["b"],
    }


def test_the_example_in_plain_is_the_one_in_pieces() -> None:
    assert by_name(ALL["example in plain"]) == by_name(ALL["example"])


# --- the real kustomize, where it is ------------------------------------------------------------------------------


def kustomized(folder: Path) -> list[Manifest]:
    """Give what kubectl's kustomize builds; skips where there is none."""
    if shutil.which("kubectl") is None:
        pytest.skip("the kubectl program is not there: our own merge is compared with what it made elsewhere")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    # It adds a hash to the name of a ConfigMap that it makes, so that a changed one is taken over.
    text = re.sub(r"\b(talon-proxy-balancer)-[a-z0-9]{10}\b", r"\1", done.stdout)
    return [document for document in yaml.safe_load_all(text) if document]


def by_name(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}


def test_kustomize_makes_of_the_example_what_stands_in_plain() -> None:
    assert kustomized(EXAMPLE) == ALL["example in plain"]


def test_kustomize_makes_of_the_shared_form_what_is_tested_here() -> None:
    assert by_name(kustomized(SHARED)) == by_name(ALL["shared"])


def test_kustomize_gives_a_deployment_an_ordinary_sidecar(tmp_path: Path) -> None:
    shutil.copytree(ORDINARY, tmp_path / "component")
    shutil.copy(EXAMPLE / "shop.yml", tmp_path)
    (tmp_path / "kustomization.yaml").write_text("resources: [shop.yml]\ncomponents: [component]\n")

    assert kustomized(tmp_path) == [before()]


# --- what they say --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workload", "container"), list(ours()))
def test_the_proxy_may_do_little(workload: Manifest, container: Manifest) -> None:
    security = container["securityContext"]

    assert security["runAsNonRoot"]
    assert security["runAsUser"] > 0
    assert security["readOnlyRootFilesystem"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    assert set(container["resources"]["limits"]) == {"memory"}
    assert not pod_of(workload).get("automountServiceAccountToken", True)


@pytest.mark.parametrize(("workload", "container"), list(ours()))
def test_probes_ask_what_there_is(workload: Manifest, container: Manifest) -> None:
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    probes = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}

    assert {"startupProbe", "livenessProbe"} <= set(probes)
    # A sidecar must not decide whether its shop is ready.
    assert ("readinessProbe" in probes) == (workload["kind"] == "StatefulSet")
    for probe in probes.values():
        assert probe["path"] in PROBES
        assert ports[probe["port"]] == 7411


@pytest.mark.parametrize(("workload", "container"), list(ours()))
def test_the_secret_is_a_directory_whose_files_the_proxy_may_read(workload: Manifest, container: Manifest) -> None:
    [mount] = container["volumeMounts"]
    [volume] = (volume for volume in pod_of(workload)["volumes"] if volume["name"] == mount["name"])

    assert mount == {"name": "talon-one", "mountPath": SECRETS, "readOnly": True}  # no subPath, which never changes
    assert volume["secret"] == {"secretName": "talon-one", "defaultMode": 0o440}
    # Files of a secret belong to root:root where there is no fsGroup.
    assert container["securityContext"]["runAsGroup"] == 0
    assert "fsGroup" not in pod_of(workload).get("securityContext", {})


@pytest.mark.parametrize(("workload", "container"), list(ours()))
def test_the_settings_are_right(workload: Manifest, container: Manifest, tmp_path: Path) -> None:
    for name, content in secret_of(SHARED).items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o440)
    variables = {entry["name"]: entry["value"].replace(SECRETS, str(tmp_path)) for entry in container["env"]}

    loaded = load([], variables)

    assert loaded.warnings == ()
    grace = pod_of(workload).get("terminationGracePeriodSeconds", 30)
    assert grace > loaded.settings.shutdown.timeout
    assert int(container["resources"]["limits"]["memory"].removesuffix("Mi")) << 20 > most_memory(loaded.settings)


def most_memory(settings: Settings) -> int:
    """What it can come to (tests/README.md, "Overload")."""
    limits = settings.limits
    held = limits.connections * CONNECTION + 2 * limits.concurrency * CALL + settings.lanes.memory * SESSION
    return IDLE + limits.buffered + held


def secret_of(folder: Path) -> dict[str, str]:
    [secret] = documents(folder / "secret.yml")
    content: dict[str, str] = secret["stringData"]
    return content


@pytest.mark.parametrize("manifests", ALL.values(), ids=ALL)
def test_what_selects_pods_finds_some(manifests: list[Manifest]) -> None:
    pods = [workload["spec"]["template"]["metadata"]["labels"] for workload in workloads(manifests)]
    for manifest in manifests:
        for selector in selectors(manifest):
            assert any(selector.items() <= labels.items() for labels in pods), (manifest["kind"], selector)


def selectors(manifest: Manifest) -> Iterator[dict[str, str]]:
    specification = manifest.get("spec", {})
    if "podSelector" in specification:
        yield specification["podSelector"]["matchLabels"]
    if selector := specification.get("selector"):
        yield selector.get("matchLabels", selector)
    for rule in specification.get("ingress", ()):
        for peer in rule.get("from", ()):
            if set(peer) == {"podSelector"}:
                yield peer["podSelector"]["matchLabels"]


@pytest.mark.parametrize("manifests", [ALL["example"], ALL["shared"]], ids=["example", "shared"])
def test_ports_that_are_named_are_there(manifests: list[Manifest]) -> None:
    named = {port["name"] for workload in workloads(manifests) for one in containers(workload) for port in one["ports"]}
    for manifest in manifests:
        specification = manifest.get("spec", {})
        match manifest["kind"]:
            case "PodMonitor":
                asked = {endpoint["port"] for endpoint in specification["podMetricsEndpoints"]}
            case "Service":
                asked = {port.get("targetPort", port["name"]) for port in specification["ports"]}
            case "NetworkPolicy":
                ports = [port["port"] for rule in specification["ingress"] for port in rule["ports"]]
                asked = {port for port in ports if isinstance(port, str)}
            case _:
                asked = set()
        assert asked <= named, manifest["kind"]


@pytest.mark.parametrize("folder", [EXAMPLE, SHARED], ids=["example", "shared"])
def test_the_operator_makes_the_same_fleets_as_the_plain_job(folder: Path) -> None:
    [monitor] = documents(folder / "pod-monitor.yml")
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    [job] = yaml.safe_load((ROOT / "deploy/prometheus/scrape-kubernetes.yml").read_text())["scrape_configs"]
    [plain] = (rule for rule in job["relabel_configs"] if rule.get("target_label") == "job")

    assert endpoint["relabelings"] == [
        {
            "sourceLabels": plain["source_labels"],
            "separator": plain["separator"],
            "targetLabel": plain["target_label"],
            "replacement": plain["replacement"],
        }
    ]
