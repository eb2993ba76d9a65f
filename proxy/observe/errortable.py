"""The table of errors in deploy/ERRORS.md, made of their classes: `python -m proxy.observe.errortable` writes it."""

import sys
from collections.abc import Iterator
from pathlib import Path

from proxy import errors
from proxy.errors import ProxyError, UpstreamError

PAGE = Path(__file__).parents[2] / "deploy" / "ERRORS.md"
BEGIN, END = "<!-- errors: rendered by make docs -->\n", "<!-- end of errors -->\n"
NEVER_RAISED = (ProxyError, UpstreamError)  # only what derives from them is


def table() -> str:
    """Render all errors, by status."""
    rows = ["| status | `message` | error in `Proxy-Status` | kind | when |", "|---|---|---|---|---|"]
    rows += [
        f"| {kind.status} | {kind.message} | {_token(kind)} | `{kind.category.value}` | {_when(kind)} |"
        for kind in sorted(kinds(), key=lambda kind: (kind.status, kind.token or b""))
    ]
    return "\n".join(rows) + "\n"


def kinds() -> Iterator[type[ProxyError]]:
    """Give every error that an answer is made of."""
    for found in vars(errors).values():
        if isinstance(found, type) and issubclass(found, ProxyError) and found not in NEVER_RAISED:
            yield found


def page(text: str) -> str:
    """Put the current table into the page."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


def _token(kind: type[ProxyError]) -> str:
    return f"`{kind.token.decode()}`" if kind.token else "–"


def _when(kind: type[ProxyError]) -> str:
    """Give the first sentence of its docstring."""
    return " ".join((kind.__doc__ or "").split()).partition(". ")[0].removesuffix(".") + "."


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(PAGE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
