"""The rules as a table, rendered from themselves: `python -m proxy.talon.checklist.document` writes it to the guide."""

import sys
from itertools import groupby
from pathlib import Path

from proxy.talon.checklist.rule import Rule
from proxy.talon.checklist.table import RULES

GUIDE = Path(__file__).with_name("README.md")
BEGIN = "<!-- rules: rendered by make docs -->\n"
END = "<!-- end of rules -->\n"


def rendered() -> str:
    """Render all rules, point by point."""
    lines: list[str] = []
    for point, rules in groupby(RULES, key=lambda rule: rule.point):
        lines += [f"### {point.value}", "", "| rule | broken means | at worst | from |", "|---|---|---|---|"]
        lines += [_row(rule) for rule in rules]
        lines.append("")
    return "\n".join(lines)


def _row(rule: Rule) -> str:
    share = f", over {rule.tolerated * 100:.3g} %" if rule.tolerated else ""
    if rule.tolerated > 0.99:
        share = ", all of them"
    text = f"{rule.text} {rule.remedy}".replace("|", "\\|")
    read = ", answers read" if rule.replies else ""
    absence = ", a day" if rule.absence else ""
    return (
        f"| [`{rule.id}`]({rule.link}) | {text} | {rule.severity.name.lower()} | {rule.least}{share}{absence}{read} |"
    )


def guide(text: str) -> str:
    """Put the current table into the guide."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{rendered()}{END}{after}"


def main() -> int:
    """Write the guide."""
    GUIDE.write_text(guide(GUIDE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
