"""Grafana's dashboard as a document; tests/test_observing.py asks a real Prometheus what it asks."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from proxy.observe import families
from proxy.observe.exposition import Family, Histogram
from tests.alerts import RECORDING, RULES
from tests.observing import dashboard

DOCUMENT = dashboard.load()
PANELS = list(dashboard.panels(DOCUMENT))
COLUMNS = 24
# Grafana's own names of units, as far as they are used.
UNITS = {"s", "reqps", "cps", "percentunit", "bytes", "short"}

every_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


def test_panels_have_numbers_and_titles_of_their_own() -> None:
    every = list(dashboard.every_panel(DOCUMENT))

    assert len({panel["id"] for panel in every}) == len(every)
    assert len({panel["title"] for panel in every}) == len(every)


@every_panel
def test_a_panel_explains_itself(panel: Mapping[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS


@every_panel
def test_a_panel_asks_the_prometheus_that_was_chosen(panel: Mapping[str, Any]) -> None:
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@every_panel
def test_a_panel_asks_only_for_what_was_chosen(panel: Mapping[str, Any]) -> None:
    """Every metric is looked for in the chosen fleet, and all but alerts, which have no proxy, at the chosen proxy."""
    for target in panel["targets"]:
        for selector in dashboard.SELECTOR.findall(target["expr"]):
            assert 'job=~"$job"' in selector
            assert 'instance=~"$instance"' in selector or selector.startswith("ALERTS{")


@every_panel
def test_queries_of_a_panel_can_be_told_apart(panel: Mapping[str, Any]) -> None:
    targets = panel["targets"]

    assert len({target["refId"] for target in targets}) == len(targets)
    if panel["type"] == "timeseries":
        assert all(target.get("legendFormat") for target in targets)


def test_every_metric_is_looked_at() -> None:
    asked = " ".join(
        [*(question.expression for question in dashboard.questions(DOCUMENT)), RULES.read_text(), RECORDING.read_text()]
    )
    declared = {value.name for value in vars(families).values() if isinstance(value, Family | Histogram)}

    assert len(declared) > 30
    assert {name for name in declared if name not in asked} == set()


def test_panels_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard.every_panel(DOCUMENT):
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = set(itertools.product(columns, range(place["y"], place["y"] + place["h"])))
        assert max(columns) < COLUMNS
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len(taken) % COLUMNS == 0, "there is a hole"


def test_a_reader_chooses_the_prometheus_first() -> None:
    variables = dashboard.variables(DOCUMENT)

    assert list(variables) == ["datasource", "job", "instance"]
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    for name in ("job", "instance"):
        assert variables[name]["datasource"]["uid"] == "${datasource}"
        assert (variables[name]["includeAll"], variables[name]["allValue"]) == (True, ".*")


def test_variables_are_put_in_as_grafana_does() -> None:
    text = 'rate(x{job=~"$job"}[$__rate_interval]) + increase(x{i="${job}"}[$__range])'

    assert dashboard.substituted(text, scraped_every=15, shown=3600, chosen={"job": "a"}) == (
        'rate(x{job=~"a"}[60s]) + increase(x{i="a"}[3600s])'
    )


def test_a_default_is_taken_off() -> None:
    question = dashboard.Question(
        "p", "(sum(a) or vector(0)) / sum(b) or on() vector(0)", "{{x}} {{ y }}", instant=False
    )

    assert question.without_default == "(sum(a)) / sum(b)"
    assert question.labels == {"x", "y"}
