"""The JSON Schema of the configuration file, for editors: `talon-proxy config schema` prints it.

It knows which keys there are and how their values look. What holds between settings, `talon-proxy config check` tells.
"""

from collections.abc import Mapping
from typing import Any

from proxy.settings.keys import MAPS, TABLE, TABLES, Key, Path

# The draft that editors of TOML understand.
DRAFT = "http://json-schema.org/draft-07/schema#"


def schema() -> dict[str, Any]:
    """Give the schema of the whole file. Nothing is required: what the file leaves out, variables may give."""
    root = {"$schema": DRAFT, "title": "Settings of talon-proxy", **_table("All settings.")}
    for path, key in TABLE.items():
        _put(root, path, _leaf(key))
    return root


def written(key: Key) -> object:
    """Give a key's default as TOML and JSON write it, or an example where there is none."""
    if key.default in (None, (), {}):
        example = key.example or ""
        if isinstance(key.default, tuple):
            return example.split(",")
        return dict([example.rsplit("=", 1)]) if isinstance(key.default, Mapping) else example
    if isinstance(key.default, tuple):
        return list(map(str, key.default))
    return key.default if key.kind.bare else key.kind.show(key.default)


def _put(node: dict[str, Any], path: Path, leaf: dict[str, Any]) -> None:
    for depth in range(len(path)):
        names = MAPS.get(path[:depth])
        below = node.setdefault("patternProperties" if names else "properties", {})
        name = names.pattern if names else path[depth]
        last = depth == len(path) - 1
        node = below.setdefault(name, leaf if last else _table(_heading(path[: depth + 1])))


def _heading(path: Path) -> str:
    if path in TABLES:
        return TABLES[path].heading
    return TABLES[*path, MAPS[path].placeholder].heading


def _table(description: str) -> dict[str, Any]:
    return {"description": description, "type": "object", "additionalProperties": False}


def _leaf(key: Key) -> dict[str, Any]:
    unset = key.required or key.default in (None, (), {})
    example = {"examples": [written(key)]} if unset else {"default": written(key)}
    return {**key.kind.schema, "description": key.description, **example}
