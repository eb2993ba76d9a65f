"""What is made of the rules: the table of `deploy/ALERTS.md`, and the rules as the Prometheus Operator takes them.

`python -m tests.alerts` writes both.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.process import ROOT

RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
PAGE = ROOT / "deploy" / "ALERTS.md"
RECORDING = RULES.parent / "recording.yml"
OPERATED = ROOT / "deploy" / "kubernetes" / "prometheus-rule.yml"
HEAD = """\
# The rules for the Prometheus Operator, made of ../prometheus/recording.yml and alerts.yml by `make docs`. Give it the
# labels that your Prometheus looks for (its ruleSelector).
"""
BEGIN = "<!-- alerts: rendered by make docs -->\n"
END = "<!-- end of alerts -->\n"
TEMPLATE = re.compile(r"\{\{\s*\$(value|labels\.(\w+))[^}]*\}\}")


@dataclass(frozen=True)
class Alert:
    """One alert as the rules have it."""

    name: str
    expression: str
    lasting: str  # how long it must hold before the alert fires; empty: not at all
    severity: str
    annotations: Mapping[str, str]

    @property
    def labels(self) -> frozenset[str]:
        """Those that its texts name."""
        texts = " ".join(self.annotations.values())
        return frozenset(found[2] for found in TEMPLATE.finditer(texts) if found[2])

    @property
    def row(self) -> str:
        """Its row of the page."""
        meaning = f"**{self.annotations['summary']}.** {spoken(self.annotations['description'])}"
        cells = (f"`{self.name}`", self.severity, self.lasting or "–", meaning, self.annotations["action"])
        return f"| {' | '.join(cells)} |"


def spoken(text: str) -> str:
    """Write *n* for a value, and a label's name for its value."""
    return TEMPLATE.sub(lambda found: f"*{found[2] or 'n'}*", text)


def alerts() -> Iterator[Alert]:
    """Read the rules."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from map(_alert, group["rules"])


def _alert(rule: Mapping[str, Any]) -> Alert:
    return Alert(rule["alert"], rule["expr"], rule.get("for", ""), rule["labels"]["severity"], rule["annotations"])


def page(text: str) -> str:
    """Put the current table into the page."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = ["| alert | severity | for | what it means | what to do |", "|---|---|---|---|---|"]
    table = "".join(f"{row}\n" for row in [*rows, *(alert.row for alert in alerts())])
    return f"{before}{BEGIN}{table}{END}{after}"


def operated() -> str:
    """Give the rules as a resource of the Prometheus Operator."""
    groups = [group for file in (RECORDING, RULES) for group in yaml.safe_load(file.read_text())["groups"]]
    document = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "talon-proxy"},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are read."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _Dumper.represent_str)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
    OPERATED.write_text(operated())
