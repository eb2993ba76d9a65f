"""The documentation of metrics and logs, made of what declares them: `python -m proxy.observe.document` writes it."""

import sys
from pathlib import Path

from proxy.observe import access, families
from proxy.observe.exposition import Family, Histogram

DEPLOY = Path(__file__).parents[2] / "deploy"
METRICS = DEPLOY / "METRICS.md"
LOGS = DEPLOY / "LOGS.md"
BEGIN = "<!-- {}: rendered by make docs -->\n"
END = "<!-- end of {} -->\n"


def metrics() -> str:
    """Render the table of metrics."""
    declared = [family for family in vars(families).values() if isinstance(family, Family | Histogram)]
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    rows += [f"| `{family.name}` | {family.kind} | {_labels(family)} | {family.help}. |" for family in declared]
    return "\n".join(rows) + "\n"


def fields() -> str:
    """Render the table of what a line of a call says."""
    rows = ["| field | meaning |", "|---|---|"]
    rows += [f"| `{name}` | {meaning}. |" for name, meaning in access.FIELDS.items()]
    return "\n".join(rows) + "\n"


def filled(text: str) -> str:
    """Put the current tables into a guide, where it has places for them."""
    for name, table in (("metrics", metrics()), ("fields", fields())):
        begin, end = BEGIN.format(name), END.format(name)
        if begin in text:
            before, _, rest = text.partition(begin)
            text = before + begin + table + end + rest.partition(end)[2]
    return text


def _labels(family: Family | Histogram) -> str:
    return ", ".join(f"`{label}`" for label in family.labels) or "–"


def main() -> int:
    """Write the guides."""
    for guide in (METRICS, LOGS):
        guide.write_text(filled(guide.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
