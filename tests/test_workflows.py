"""The workflows of CI and of releases: valid, pinned, and with no more rights than they need."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.process import PATIENCE, ROOT

FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
PINNED = re.compile(r"uses: [\w-]+/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
RELEASE = yaml.safe_load((FOLDER / "release.yml").read_text())["jobs"]

every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def content(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr


def steps(jobs: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for job in jobs.values():
        yield from job.get("steps", ())


def ran(name: str) -> str:
    """Give all that a job of the release runs."""
    return "\n".join(step.get("run", step.get("uses", "")) for step in RELEASE[name]["steps"])


def test_there_are_two() -> None:
    assert [file.name for file in FILES] == ["ci.yml", "release.yml"]


@pytest.mark.parametrize("schema", ["vendor.github-workflows", "custom.github-workflows-require-timeout"])
def test_workflows_are_valid(schema: str) -> None:
    content(sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, FILES))


def test_workflows_give_nothing_away() -> None:
    """Rights, credentials left behind, templates in scripts, actions by a tag: what zizmor knows."""
    zizmor = shutil.which("zizmor", path=str(Path(sys.executable).parent))
    assert zizmor is not None

    content(zizmor, "--offline", "--no-progress", "--min-severity=medium", *map(str, FILES))


@every_file
def test_an_action_is_pinned_to_a_commit_and_says_its_version(file: Path) -> None:
    used = [line.strip(" -") for line in file.read_text().splitlines() if "uses:" in line]

    assert used
    assert all(PINNED.fullmatch(line) or line == "uses: ./.github/workflows/ci.yml" for line in used), used


@every_file
def test_scripts_are_shell(file: Path) -> None:
    for step in steps(yaml.safe_load(file.read_text())["jobs"]):
        if script := step.get("run"):
            content("bash", "-n", "-c", script)


def test_a_release_is_tested_built_for_both_architectures_signed_and_verified() -> None:
    assert RELEASE["test"]["uses"] == "./.github/workflows/ci.yml"
    assert (RELEASE["build"]["needs"], RELEASE["publish"]["needs"]) == ("test", "build")
    built = RELEASE["build"]["strategy"]["matrix"]["include"]
    assert {entry["architecture"] for entry in built} == {"amd64", "arm64"}
    assert "--sbom=true --provenance=mode=max" in ran("build")
    assert "-lt 120000000" in ran("build")
    signing = ran("publish")
    assert signing.index("cosign sign --yes") < signing.index("cosign verify")
    assert "actions/attest-build-provenance@" in signing
    # Only the job that signs may ask for an identity.
    assert [name for name, job in RELEASE.items() if "id-token" in job["permissions"]] == ["publish"]


def test_make_targets_that_workflows_call_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = re.findall(r"\bmake ((?:\S+ ?)+)", "\n".join(file.read_text() for file in FILES))
    words = {word for line in called for word in line.split() if re.fullmatch(r"[a-z][a-z-]+", word)}

    assert {"test", "test-packages", "compile-packages"} <= words & targets
