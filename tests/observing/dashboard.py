"""Grafana's dashboard as Grafana would ask it of Prometheus."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.process import ROOT

FILE = ROOT / "deploy" / "grafana" / "talon-proxy.json"
# What a panel shows instead of nothing.
DEFAULT = re.compile(r"\s+or\s+(on\s*\(\)\s*)?vector\(0\)")
SELECTOR = re.compile(r"\b(?:talon_proxy_\w+|process_\w+|python_\w+|ALERTS)\b\{?[^}]*\}?")
LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class Question:
    """One expression of a panel."""

    panel: str
    expression: str
    legend: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.panel}: {self.expression}"

    @property
    def without_default(self) -> str:
        """The expression that has no answer where nothing happened."""
        return DEFAULT.sub("", self.expression)

    @property
    def labels(self) -> frozenset[str]:
        """Those that the legend names."""
        return frozenset(LABEL.findall(self.legend))


def load() -> Mapping[str, Any]:
    """Read it."""
    document: Mapping[str, Any] = json.loads(FILE.read_text())
    return document


def panels(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Give those that show something; rows only part them."""
    for panel in every_panel(document):
        if panel["type"] != "row":
            yield panel


def every_panel(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Give all, rows and what is folded into them too."""
    for panel in document["panels"]:
        yield panel
        yield from panel.get("panels", ())


def questions(document: Mapping[str, Any]) -> Iterator[Question]:
    """Give every expression, variables as written."""
    for panel in panels(document):
        for target in panel["targets"]:
            yield Question(panel["title"], target["expr"], target.get("legendFormat", ""), target.get("instant", False))


def variables(document: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Give the variables that a reader chooses, by name."""
    return {variable["name"]: variable for variable in document["templating"]["list"]}


def substituted(expression: str, *, scraped_every: float, shown: float, chosen: Mapping[str, str]) -> str:
    """Put in what Grafana would: seconds between scrapes, seconds shown, and what was chosen.

    `$__rate_interval` is four times the scrape interval at least, so that a rate always has two samples.
    """
    values = {
        "__rate_interval": f"{max(4 * scraped_every, 1):g}s",
        "__range": f"{shown:g}s",
        "__interval": f"{scraped_every:g}s",
        **chosen,
    }
    return re.sub(r"\$\{?(\w+)\}?", lambda found: values[found[1]], expression)
