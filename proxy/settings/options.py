"""Options: every setting as a flag, for `serve --help` and its like."""

import textwrap
from collections.abc import Iterator, Sequence

from proxy.settings.keys import TABLE, flag, twin

ASKS = frozenset({"--help", "-h"})
WIDTH = 100


def asked_for(words: Sequence[str]) -> bool:
    """Whether somebody asks what can be said, and says nothing else."""
    return bool(words) and words[0] in ASKS


def options(usage: str) -> str:
    """Give the text: how the command is called, and all flags with their defaults."""
    return "\n".join((f"usage: talon-proxy {usage}", "", *_lines())) + "\n"


def _lines() -> Iterator[str]:
    yield "Every setting is a flag, a variable (--upstream.url: TALON_PROXY_UPSTREAM__URL) and a line of a file; flag"
    yield "over variable over file. A secret has no flag but that of its file. How values are written: config/README.md"
    yield ""
    yield "  --config FILE"
    yield "      TOML file with settings."
    yield "  --compat talon-access-proxy"
    yield "      Take over what that proxy was told by its APP_CONFIG, PORT, ADDRESS and APP_ROOT."
    for path, key in TABLE.items():
        if key.kind.secret and twin(path) in TABLE:
            continue
        shown = key.shown or (key.kind.show(key.default) if key.default not in (None, (), {}) else "")
        default = "required" if key.required else shown.replace("`", "")
        yield f"  {flag(path)} {key.kind.name.replace('`', '')}" + (f" ({default})" if default else "")
        yield from textwrap.wrap(
            key.description.replace("`", ""), WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6
        )
