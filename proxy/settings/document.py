"""The documentation of the settings, rendered from the model: `python -m proxy.settings.document` writes it.

`config/talon-proxy.toml` is written whole, `config/README.md` between its two marks.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath

from proxy.settings.keys import NAME, SECTIONS, TABLE, Key, Path, dotted

CONFIG = FilePath(__file__).parents[2] / "config"
SAMPLE = CONFIG / "talon-proxy.toml"
GUIDE = CONFIG / "README.md"
BEGIN = "<!-- settings: rendered by make docs -->\n"
END = "<!-- end of settings -->\n"

ENTRY = "eu"  # the name that the sample gives to an entry of a map
WIDTH = 100

HEAD = """\
# Every setting of talon-proxy with its default. A line that begins with "#" changes nothing; remove the "#" to
# change its setting. config/README.md explains units, environment variables and flags.
"""


def sample() -> str:
    """Render the sample file."""
    lines = [HEAD]
    for section in ((), *SECTIONS):
        if section:
            # The header of a named entry stays a comment: alone it would already configure that entry.
            mark = "#" if section[-1] == NAME else ""
            lines += ["", f"# {_summary(section)}", f"{mark}[{dotted(_entry(section))}]", ""]
        keys = [key for key in TABLE.values() if key.path[:-1] == section]
        for key in keys:
            lines += [*_wrapped(_sentence(key)), f"#{key.path[-1]} = {_literal(key)}", ""]
    return "\n".join(lines).replace("\n\n\n", "\n\n").rstrip() + "\n"


def table() -> str:
    """Render the table of the guide."""
    rows = ["| key | default | value | meaning |", "|---|---|---|---|"]
    rows += [f"| `{key}` | {_default(key)} | {key.kind.name} | {key.description} |" for key in TABLE.values()]
    return "\n".join(rows) + "\n"


def guide(text: str) -> str:
    """Put the current table into the guide."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def _summary(section: Path) -> str:
    return (SECTIONS[section].__doc__ or "").strip()


def _entry(path: Path) -> Path:
    return tuple(ENTRY if name == NAME else name for name in path)


def _sentence(key: Key) -> str:
    if key.required:
        return f"{key.description} Required."
    return key.description


def _wrapped(sentence: str) -> Iterator[str]:
    line = "#"
    for word in sentence.split(" "):
        if len(line) + len(word) > WIDTH:
            yield line
            line = "#"
        line += f" {word}"
    yield line


def _unset(key: Key) -> bool:
    return key.required or key.default is None or key.default in ((), {})


def _default(key: Key) -> str:
    if key.required:
        return "required"
    return "–" if _unset(key) else ", ".join(f"`{part}`" for part in key.kind.show(key.default).split(","))


def _literal(key: Key) -> str:
    """Write a key's default in TOML, or an example where there is none."""
    text = (key.example or "") if _unset(key) else key.kind.show(key.default)
    if isinstance(key.default, tuple):
        return f"[{', '.join(json.dumps(part) for part in text.split(','))}]"
    if isinstance(key.default, Mapping):
        name, _, value = text.partition("=")
        return f"{{ {json.dumps(name)} = {json.dumps(value)} }}"
    return text if key.kind.bare else json.dumps(text)


def main() -> int:
    """Write both files."""
    SAMPLE.write_text(sample())
    GUIDE.write_text(guide(GUIDE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
