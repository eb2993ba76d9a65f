"""talon-proxy in its variants. A variant is a line: its name, its title, and the settings in which it differs."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.bench.contenders import Contender, Place, Start
from tests.bench.servers import ROOT, free_port, get_status

Variants = tuple[tuple[str, str, Mapping[str, str]], ...]

COMPILED = ROOT / "build" / "compiled"
_H2 = {"UPSTREAM__PROTOCOL": "auto"}
_CLEAR = {"UPSTREAM__URL": "http://127.0.0.1:{upstream.clear_port}"}
_BARE = {"LANES__ENABLED": "false", "COALESCING__ENABLED": "false"}
# For more callers, and more calls at a time, than the defaults allow.
_WIDE = {"LIMITS__CONNECTIONS": "10500", "LIMITS__CONCURRENCY": "600", "UPSTREAM__CONNECTIONS__MAX": "600"}

# Name, title, settings without their prefix. Everything else is as by default: "all on".
MAIN: Variants = (
    ("proxy", "talon-proxy, all on", {}),
    ("proxy-h2", "talon-proxy, HTTP/2, all on", _H2),
    ("proxy-clear", "talon-proxy, all on", _CLEAR),
    ("proxy-wide", "talon-proxy, limits raised", _WIDE),
)
# Of which the cost is shown: each of them is measured beside `proxy`.
FEATURES: Variants = (
    ("proxy-bare", "without lanes and coalescing", _BARE),
    ("proxy-checklist-off", "without the integration checklist", {"CHECKLIST__ENABLED": "false"}),
    ("proxy-log-all", "`log.access = all`", {"LOG__ACCESS": "all"}),
    ("proxy-log-off", "`log.access = off`", {"LOG__ACCESS": "off"}),
)
# The same with nobody told of calls: neither metrics nor access log (`tests.bench.unobserved`).
UNOBSERVED = ("proxy-unobserved", "no metrics, no access log")
SOURCE = ("proxy-source", "not compiled")


def ourselves(extra: Mapping[str, str]) -> list[Contender]:
    """All variants; `extra` is added to the environment of each."""
    compiled = [_contender(name, title, settings, extra) for name, title, settings in (*MAIN, *FEATURES)]
    unobserved = _contender(*UNOBSERVED, {}, extra, module="tests.bench.unobserved")
    source = _contender(*SOURCE, {}, extra, where=ROOT)
    return [*compiled, unobserved, source]


def _contender(
    name: str,
    title: str,
    settings: Mapping[str, str],
    extra: Mapping[str, str],
    *,
    where: Path = COMPILED,
    module: str = "proxy",
) -> Contender:
    variables = {f"TALON_PROXY_{key}": value for key, value in settings.items()}
    return Contender(
        name,
        title,
        lambda place: start(place, {**variables, **extra}, where=where, module=module),
        _missing_compiled if where == COMPILED else lambda: "",
    )


def start(place: Place, variables: Mapping[str, str], *, where: Path = COMPILED, module: str = "proxy") -> Start:
    """talon-proxy: compiled, as in the image, or as its source is."""
    upstream, admin_port = place.upstream, free_port()
    # The caller's own settings would make the figures incomparable.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TALON_PROXY_")}
    env = {
        **inherited,
        "PYTHONPATH": f"{where}{os.pathsep}{ROOT}",
        "TALON_PROXY_UPSTREAM__URL": f"https://localhost:{upstream.port}",
        "TALON_PROXY_UPSTREAM__TLS__CA_FILE": str(upstream.ca_file),
        "TALON_PROXY_UPSTREAM__PROTOCOL": "http/1.1",
        "TALON_PROXY_API_KEY": upstream.api_key,
        "TALON_PROXY_LISTEN": f"127.0.0.1:{place.port},unix:{place.socket}",
        "TALON_PROXY_ADMIN__LISTEN": f"127.0.0.1:{admin_port}",
        **{name: value.format(upstream=upstream) for name, value in variables.items()},
    }
    # -P: not from the working directory.
    command = [sys.executable, "-P", "-m", module, "serve"]
    return Start(command, lambda: get_status(admin_port, "/readyz") == 200, env)


def _missing_compiled() -> str:
    return "" if COMPILED.is_dir() else "the compiled proxy is missing: run `make compiled`"
