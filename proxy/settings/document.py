"""The documentation of the settings, rendered from the model: `python -m proxy.settings.document` writes it.

`config/talon-proxy.toml` and `config/talon-proxy.schema.json` are written whole, `config/README.md` between its marks.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path as FilePath

from proxy.settings.keys import MAPS, TABLE, TABLES, Key, dotted, example
from proxy.settings.schema import schema, written

CONFIG = FilePath(__file__).parents[2] / "config"
SAMPLE = CONFIG / "talon-proxy.toml"
SCHEMA = CONFIG / "talon-proxy.schema.json"
GUIDE = CONFIG / "README.md"
BEGIN = "<!-- settings: rendered by make docs -->\n"
END = "<!-- end of settings -->\n"

WIDTH = 100

HEAD = f"""\
#:schema ./{SCHEMA.name}

# Every setting of talon-proxy with its default. A line that begins with "#" changes nothing; remove the "#" to
# change its setting. config/README.md explains units, environment variables and flags.
"""


def sample() -> str:
    """Render the sample file."""
    lines = [HEAD]
    for section in ((), *TABLES):
        if section:
            # The header of a named entry stays a comment: alone it would already configure that entry.
            mark = "#" if section[:-1] in MAPS else ""
            lines += ["", *_wrapped(TABLES[section].heading), f"{mark}[{dotted(example(section))}]", ""]
        for key in (key for key in TABLE.values() if key.path[:-1] == section):
            # The entries of a map say nothing that its heading does not.
            sentence = [] if section in MAPS else _wrapped(_sentence(key))
            lines += [*sentence, f"#{example(key.path)[-1]} = {_literal(key)}", ""]
    return "\n".join(lines).replace("\n\n\n", "\n\n").rstrip() + "\n"


def rendered_schema() -> str:
    """Render the schema file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


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


def _sentence(key: Key) -> str:
    if key.required:
        return f"{key.description} Required."
    return f"{key.description} Default: {key.shown}." if key.shown else key.description


def _wrapped(sentence: str) -> Iterator[str]:
    line = "#"
    for word in sentence.split(" "):
        if len(line) + len(word) > WIDTH:
            yield line
            line = "#"
        line += f" {word}"
    yield line


def _default(key: Key) -> str:
    if key.required:
        return "required"
    if key.shown or key.default in (None, (), {}):
        return key.shown or "–"
    return ", ".join(f"`{part}`" for part in key.kind.show(key.default).split(","))


def _literal(key: Key) -> str:
    """Write a key's default in TOML, or an example where there is none."""
    value = written(key)
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(name)} = {json.dumps(entry)}' for name, entry in value.items())} }}"
    return json.dumps(value, ensure_ascii=False)


def main() -> int:
    """Write all files."""
    SAMPLE.write_text(sample())
    SCHEMA.write_text(rendered_schema())
    GUIDE.write_text(guide(GUIDE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
