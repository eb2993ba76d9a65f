"""Kubernetes manifests as `kubectl apply -k` would make them: the little of kustomize that `deploy/kubernetes` uses.

Patches are strategic merges: lists of things with a key are merged by it, as the API server and kustomize do. What a
patch adds to such a list stands first, as kustomize has it (its merge option is MergeOptionsListPrepend).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.process import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
Manifest = dict[str, Any]
# `patchMergeKey` of the lists that occur here, from the API's types.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
}


def documents(file: Path) -> list[Manifest]:
    """Read all documents of a file."""
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def built(folder: Path) -> list[Manifest]:
    """Build what a folder's kustomization says. Raises AssertionError where it says what is not known here."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert kustomization["kind"] == "Kustomization"
    assert set(kustomization) <= {
        "apiVersion", "kind", "namespace", "resources", "components", "configMapGenerator"
    }  # fmt: skip
    manifests = [document for name in kustomization["resources"] for document in documents(folder / name)]
    manifests += [_config_map(folder, entry) for entry in kustomization.get("configMapGenerator", ())]
    for component in kustomization.get("components", ()):
        manifests = [patched(manifest, folder / component) for manifest in manifests]
    for manifest in manifests:
        manifest["metadata"]["namespace"] = kustomization["namespace"]
    return manifests


def _config_map(folder: Path, entry: Mapping[str, Any]) -> Manifest:
    files = {name: (folder / name).read_text() for name in entry["files"]}
    # kustomize adds a hash to the name, and to every mention of it.
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": entry["name"]}, "data": files}


def patched(manifest: Manifest, component: Path) -> Manifest:
    """Apply the patches of a component, where they are for this manifest."""
    kustomization = yaml.safe_load((component / "kustomization.yaml").read_text())
    assert kustomization["kind"] == "Component"
    for entry in kustomization["patches"]:
        [patch] = documents(component / entry["path"])
        if _meant(manifest, entry["target"]):
            # With a target, kustomize does not look at the patch's own name.
            patch["metadata"].pop("name")
            manifest = merged(manifest, patch)
    return manifest


def _meant(manifest: Manifest, target: Mapping[str, str]) -> bool:
    label, _, value = target["labelSelector"].partition("=")
    labels = manifest["metadata"].get("labels", {})
    return bool(manifest["kind"] == target["kind"] and labels.get(label) == value)


def merged(onto: Any, patch: Any, key: str = "") -> Any:
    """Merge strategically."""
    if isinstance(onto, dict) and isinstance(patch, dict):
        return onto | {name: merged(onto.get(name), value, name) for name, value in patch.items()}
    if isinstance(onto, list) and key in MERGE_KEYS:
        return _merged_lists(onto, patch, MERGE_KEYS[key])
    return patch


def _merged_lists(onto: list[Any], patch: list[Any], key: str) -> list[Any]:
    patches = {item[key]: item for item in patch}
    present = [merged(item, patches.pop(item[key], {})) for item in onto]
    return [*patches.values(), *present]


def pod_of(manifest: Manifest) -> Manifest:
    """Give the pod's specification of a workload."""
    pod: Manifest = manifest["spec"]["template"]["spec"]
    return pod


def containers(manifest: Manifest) -> Iterator[Manifest]:
    """Give all containers of a workload."""
    pod = pod_of(manifest)
    yield from pod.get("initContainers", ())
    yield from pod["containers"]


def workloads(manifests: list[Manifest]) -> Iterator[Manifest]:
    """Give those that run pods."""
    yield from (manifest for manifest in manifests if "template" in manifest.get("spec", {}))
