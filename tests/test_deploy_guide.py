"""The operators' page: what it names is there, and what it has one type is what the proxy takes."""

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from proxy.settings import load
from tests.manifests import FOLDER
from tests.process import ROOT

PAGES = [ROOT / "deploy" / "README.md", ROOT / "deploy" / "ALERTS.md"]
GUIDE = PAGES[0].read_text()
COMMANDS = "\n".join(re.findall(r"```sh\n(.+?)```", GUIDE, re.DOTALL)).replace("\\\n", " ").splitlines()


def anchor(heading: str) -> str:
    """Give the fragment by which a heading is linked."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", page.read_text())

    assert links
    for path, fragment in links:
        target = page.parent / path if path else page
        assert target.exists(), path
        if fragment:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{path}#{fragment}"


def test_files_and_targets_that_are_named_are_there() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert set(re.findall(r"`make (\S+)`", GUIDE)) <= set(targets)
    for folder in re.findall(r"kubectl apply -k\s+(\S+)`", GUIDE):
        assert (ROOT / folder / "kustomization.yaml").exists()
    [component] = re.findall(r"^components: \[\.\./talon-proxy/(\S+)\]$", GUIDE, re.MULTILINE)
    assert ROOT / component / "kustomization.yaml" == FOLDER / "sidecar" / "kustomization.yaml"
    for file in re.findall(r"docker compose -f (\S+)", GUIDE):
        assert (ROOT / file).exists()


def runs() -> Iterator[Sequence[str]]:
    """Give the words of each `docker run`."""
    for command in COMMANDS:
        if command.startswith("docker run"):
            yield shlex.split(command)


def options(words: Sequence[str], name: str) -> Sequence[str]:
    return [value for option, value in itertools.pairwise(words) if option == name]


@pytest.mark.parametrize("words", list(runs()), ids=["beside the shop", "published"])
def test_a_container_is_started_with_settings_that_are_right(words: Sequence[str], tmp_path: Path) -> None:
    key = tmp_path / "talon-one"
    key.write_text("a-key-of-an-application")
    key.chmod(0o600)
    variables = dict(option.split("=", 1) for option in options(words, "-e"))
    [mounted] = options(words, "-v")
    assert mounted == f"./talon-one.key:{variables['TALON_PROXY_API_KEY_FILE']}:ro"
    variables["TALON_PROXY_API_KEY_FILE"] = str(key)

    loaded = load([], variables)

    assert loaded.warnings == ()
    assert "--read-only" in words
    listen = {address.port: address for address in (*loaded.settings.listen, *loaded.settings.admin.listen)}
    for published in options(words, "-p"):
        assert listen[int(published.rpartition(":")[2])].host == "0.0.0.0"


def test_what_a_label_says_is_what_the_component_looks_for() -> None:
    [label] = re.findall(r"the label `([^`]+)`", GUIDE)

    assert f"labelSelector: {label.replace(': ', '=')}" in (FOLDER / "sidecar" / "kustomization.yaml").read_text()
