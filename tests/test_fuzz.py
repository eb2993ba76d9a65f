"""The fuzzer's targets without a fuzzer: their seeds, what was found before, and mutations, the same each time."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.mutations import mutations
from tests.fuzz.target import LOOP
from tests.fuzz.targets import TARGETS

FINDINGS = [
    json.loads(line) for line in (Path(__file__).parent / "data" / "findings.jsonl").read_text().splitlines() if line
]
MUTATIONS = {
    "requests": 1000,
    "replies": 2000,
    "frames": 1500,
    "blocks": 10000,
    "bodies": 10000,
    "settings": 300,
    "compat": 500,
}


@pytest.fixture(scope="module", autouse=True)
def _loop() -> Iterator[None]:
    yield
    LOOP.close()


@pytest.mark.parametrize("name", TARGETS)
def test_a_seed_keeps_its_promise(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].check(seed)


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: finding["id"])
def test_what_was_found_once_stays_mended(finding: dict[str, str]) -> None:
    TARGETS[finding["target"]].check(finding["input"].encode("latin-1"))


@pytest.mark.parametrize("name", TARGETS)
def test_a_mutation_of_a_seed_keeps_its_promise(name: str) -> None:
    for data in mutations(TARGETS[name], MUTATIONS[name], seed=1):
        try:
            TARGETS[name].check(data)
        except Exception as error:
            error.add_note(f"{name}: {data!r}")
            raise


def test_every_target_is_played() -> None:
    assert set(MUTATIONS) == set(TARGETS)
    assert {finding["target"] for finding in FINDINGS} <= set(TARGETS)
    assert len({finding["id"] for finding in FINDINGS}) == len(FINDINGS)
