"""The pages of the admin port, for people who would rather look than read: each one file that needs nothing else.

A page is made of what lies in `pages/`: `shell.html` around `<name>.html`, `style.css` and `common.js` for all, and its
own `<name>.css` and `<name>.js`. Style and script stand in the page, and its Content-Security-Policy names their
hashes: nothing else can run, nothing can be fetched but from this listener, and no text can become markup (Trusted
Types). A page holds no data; its script asks for that.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FILES = Path(__file__).parent / "pages"
# By path: the name of its files, and what navigation calls it.
NAMES: Mapping[str, tuple[str, str]] = {
    "": ("status", "Status"),
    "checklist": ("checklist", "Checklist"),
}


@dataclass(frozen=True, slots=True)
class Page:
    """What is answered, and the policy that goes with it."""

    body: bytes
    policy: str


def pages() -> Mapping[str, Page]:
    """Make all pages, by path without its slash. Raises OSError where their files are missing."""
    return {path: _page(path, name, title) for path, (name, title) in NAMES.items()}


def _page(path: str, name: str, title: str) -> Page:
    style = _text("style.css") + _text(f"{name}.css")
    script = _text("common.js") + _text(f"{name}.js")
    text = _text("shell.html")
    for place, content in (
        ("title", title),
        ("navigation", _navigation(path)),
        ("main", _text(f"{name}.html")),
        ("style", style),
        ("script", script),
    ):
        text = text.replace(f"<!-- {place} -->", content)
    return Page(text.encode(), _policy(style, script))


def _navigation(path: str) -> str:
    # Relative, for whoever reaches this listener below a path of another server.
    return "".join(
        f'<a href="./{other}"{" aria-current=page" if other == path else ""}>{title}</a>'
        for other, (_, title) in NAMES.items()
    )


def _policy(style: str, script: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash(style)}",
            f"script-src {_hash(script)}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8")
