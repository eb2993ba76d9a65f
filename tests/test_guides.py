"""The guides, tried word for word: a reader who types what stands there gets what stands below it.

Blocks marked `sh` are run in one shell, in an empty folder; a block marked `text` after one is what it must print, line
by line and in this order, `…` for what differs. Ports are the only thing that is changed: a test has its own.
"""

import ast
import os
import re
import socket
import sys
from pathlib import Path

import pytest

from proxy.errors import Category
from proxy.observe import errortable, families
from proxy.observe.exposition import Family, Histogram
from proxy.settings.keys import TABLE
from tests.process import PROXY_AT, ROOT, Process

GUIDES = ("deploy/FIRST-STEPS.md", "deploy/SDKS.md", "config/KEYS.md", "config/MIGRATION.md")
PORTS = ("7410", "7411", "9900")
_BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "=== block {} ==="


def _free_ports(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _script(blocks: list[tuple[str, str]], ports: list[str]) -> str:
    lines = ["exec 2>&1", "set -e -o pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for number, (kind, text) in enumerate(blocks):
        if kind == "sh":
            lines += [f"printf '\\n{_MARK.format(number)}\\n'", text]
    return _with(ports, "\n".join(lines))


def _with(ports: list[str], text: str) -> str:
    for port, free in zip(PORTS, ports, strict=True):
        text = text.replace(port, free)
    return text


def _missing(expected: str, printed: str) -> str | None:
    """Give the first expected line that is not there; None: all are, in order."""
    lines = iter(printed.splitlines())
    for line in filter(None, map(str.strip, expected.splitlines())):
        pattern = re.compile(".*".join(re.escape(" ".join(part.split())) for part in line.split("…")))
        if not any(pattern.fullmatch(" ".join(each.split())) for each in lines):
            return line
    return None


@pytest.mark.parametrize("guide", GUIDES)
async def test_a_guide_does_what_it_says(guide: str, tmp_path: Path) -> None:
    blocks = _BLOCK.findall((ROOT / guide).read_text())
    ports = _free_ports(len(PORTS))
    bin_ = Path(sys.executable).parent
    environ = {
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "PYTHONPATH": PROXY_AT,
        "HOME": str(tmp_path),
        # Where the guide leaves it to the defaults.
        "TALON_PROXY_ADMIN__LISTEN": f"127.0.0.1:{ports[1]}",
        # The file of the old proxy has an address, and a variable of ours would be stronger.
        **({} if "MIGRATION" in guide else {"TALON_PROXY_LISTEN": f"127.0.0.1:{ports[0]}"}),
    }
    script = _script(blocks, ports).replace(
        "talon-proxy simulate", f"talon-proxy simulate --listen 127.0.0.1:{ports[2]}"
    )

    shell = await Process.start("bash", "-c", f"cd {tmp_path}\n{script}", env=environ)
    try:
        # Each of its steps may take as long as a process may, not all of them together.
        for number, (kind, _) in enumerate(blocks):
            if kind == "sh":
                await shell.line(_MARK.format(number))
        ended = await shell.ended()
    finally:
        await shell.kill()

    assert ended.code == 0, ended.out
    printed = re.split(r"^=== block (\d+) ===$", ended.out, flags=re.MULTILINE)
    by_block = dict(zip(map(int, printed[1::2]), printed[2::2], strict=True))
    for number, (kind, expected) in enumerate(blocks):
        if kind == "text":
            missing = _missing(_with(ports, expected), by_block[number - 1])
            assert missing is None, f"block {number} did not print {missing!r}:\n{by_block[number - 1]}"


def test_every_link_of_a_guide_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("config/*.md"), *ROOT.glob("deploy/*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


# --- what is rendered, or names what the code has -----------------------------------------------------------------


def test_the_page_of_errors_is_what_the_code_does() -> None:
    text = errortable.PAGE.read_text()

    assert errortable.page(text) == text, "make docs"


def test_what_the_page_of_errors_leaves_out_is_never_raised() -> None:
    made = {
        getattr(node.func, "id", getattr(node.func, "attr", ""))
        for file in (ROOT / "proxy").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
    }

    assert {kind.__name__ for kind in errortable.NEVER_RAISED} & made == set()
    assert {kind.__name__ for kind in errortable.kinds()} - made <= {"Unavailable"}, "an error that nobody makes"


def test_advice_on_errors_names_real_ones() -> None:
    advice = errortable.PAGE.read_text().partition("## What to do")[2]
    rows = re.findall(r"^\| ([^|]*) \|", advice, re.MULTILINE)
    words = {word for row in rows for word in re.findall(r"`([a-z_]+)`", row)}
    known = {kind.token.decode() for kind in errortable.kinds() if kind.token} | {each.value for each in Category}

    assert words - {"unknown"} <= known
    assert len(words) > 8


def test_what_is_read_of_metrics_exists() -> None:
    known = {
        found.name: set(found.labels) for found in vars(families).values() if isinstance(found, Family | Histogram)
    }
    for page in (ROOT / "deploy").glob("*.md"):
        text = page.read_text()
        for name, selector in re.findall(r"\b(talon_proxy_\w+[a-z])(?:\{([^}]*)\})?", text):
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            assert family in known or name in known, f"{page.name}: {name}"
            for label in re.findall(r"(\w+)=~?\"", selector):
                assert label in known[family if family in known else name], f"{page.name}: {name} by {label}"


def test_settings_that_guides_name_exist() -> None:
    keys = {str(key) for key in TABLE.values()}
    sections = {part.split(".")[0] for part in keys}
    for page in (ROOT / "deploy" / name for name in ("ERRORS.md", "SIZING.md", "START-ORDER.md", "SDKS.md")):
        for name in re.findall(r"`([a-z_]+\.[a-z_.]+)`", page.read_text()):
            if name.split(".")[0] in sections:
                assert any(key == name or key.startswith(f"{name}.") for key in keys), f"{page.name}: {name}"
