"""The documentation of the metrics, rendered from their declarations: `python -m proxy.observe.document` writes it."""

import sys
from pathlib import Path

from proxy.observe import families
from proxy.observe.exposition import Family, Histogram

GUIDE = Path(__file__).parents[2] / "deploy" / "METRICS.md"
BEGIN = "<!-- metrics: rendered by make docs -->\n"
END = "<!-- end of metrics -->\n"


def table() -> str:
    """Render the table."""
    declared = [family for family in vars(families).values() if isinstance(family, Family | Histogram)]
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    rows += [f"| `{family.name}` | {family.kind} | {_labels(family)} | {family.help}. |" for family in declared]
    return "\n".join(rows) + "\n"


def guide(text: str) -> str:
    """Put the current table into the guide."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def _labels(family: Family | Histogram) -> str:
    return ", ".join(f"`{label}`" for label in family.labels) or "–"


def main() -> int:
    """Write the guide."""
    GUIDE.write_text(guide(GUIDE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
