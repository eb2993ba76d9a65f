"""Contenders: how each proxy is started for the same work.

All of them listen in clear on loopback, keep connections to the origin over verified TLS 1.3 with HTTP/1.1, or
HTTP/2 where their name says so, add the Authorization header, run as one process or one thread, and log no calls.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.origin import Origin
from tests.bench.servers import BenchError, Server, free_port, get_status, running
from tests.bench.workload import check_call

ROOT = Path(__file__).parents[2]
COMPILED = ROOT / "build" / "compiled"
# What every run needs, whoever the contenders are.
PROGRAMS = ("nginx", "wrk", "openssl", "taskset", "timeout")
DEBIAN_PACKAGES = {"nginx": "nginx-light", "taskset": "util-linux", "timeout": "coreutils"}


@dataclass(frozen=True, slots=True)
class Start:
    """How to start a contender, and how to see that it is up."""

    command: list[str]
    port: int
    ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


@dataclass(frozen=True, slots=True)
class Contender:
    """A proxy to measure."""

    name: str
    missing: Callable[[], str]
    """What is missing to run it, or nothing."""
    prepare: Callable[[Origin, Path], Start]


def contenders(proxy_env: Mapping[str, str] | None = None) -> dict[str, Contender]:
    """All contenders by name; `proxy_env` is added to the environment of our own."""
    env = proxy_env or {}

    def ours(name: str, where: Path, protocol: str) -> Contender:
        missing = _missing_compiled if where == COMPILED else _nothing
        return Contender(name, missing, lambda origin, directory: proxy(where, origin, env, protocol=protocol))

    def haproxy_of(name: str, protocol: str) -> Contender:
        return Contender(
            name, lambda: _missing_program("haproxy"), lambda origin, directory: haproxy(origin, directory, protocol)
        )

    found = [
        Contender("nginx", lambda: _missing_program("nginx"), nginx),
        haproxy_of("haproxy", "http/1.1"),
        ours("proxy", COMPILED, "http/1.1"),
        ours("proxy-source", ROOT, "http/1.1"),
        haproxy_of("haproxy-h2", "h2"),
        ours("proxy-h2", COMPILED, "auto"),
        ours("proxy-h2-source", ROOT, "auto"),
    ]
    return {contender.name: contender for contender in found}


@contextlib.contextmanager
def running_contender(
    contender: Contender, origin: Origin, directory: Path, *, cpu: int | None, lifetime: float
) -> Iterator[tuple[Server, int]]:
    """Run a contender that has answered a call rightly; gives the server and its port."""
    start = contender.prepare(origin, directory)
    with running(
        contender.name,
        start.command,
        cpu=cpu,
        directory=directory,
        lifetime=lifetime,
        env=start.env,
        cwd=ROOT,
    ) as server:
        server.wait_until(start.ready)
        check_call(server, start.port)
        yield server, start.port


def require_programs(programs: Iterable[str]) -> None:
    """Raise BenchError, with the command that helps, unless all are installed."""
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        packages = " ".join(DEBIAN_PACKAGES.get(program, program) for program in missing)
        raise BenchError(
            f"{', '.join(missing)} not installed; as root: apt-get install --no-install-recommends {packages}"
        )


def nginx(origin: Origin, directory: Path) -> Start:
    """One nginx worker under its master."""
    port = free_port()
    config = directory / "nginx.conf"
    # As root, nginx would change to a user that may not exist here.
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "\n  ".join(
        f"{kind}_temp_path {directory}/nginx-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(f"""\
daemon off;
{user}
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  {temporary}
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  upstream origin {{
    server 127.0.0.1:{origin.port};
    keepalive 128;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass https://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host localhost;
      proxy_set_header Authorization "{origin.authorization}";
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {origin.ca_file};
      proxy_ssl_server_name on;
      proxy_ssl_name localhost;
      proxy_ssl_protocols TLSv1.3;
    }}
  }}
}}
""")
    command = ["nginx", "-p", str(directory), "-e", "stderr", "-c", str(config)]
    return Start(command, port, lambda: get_status(port, "/") == 200)


def haproxy(origin: Origin, directory: Path, protocol: str = "http/1.1") -> Start:
    """HAProxy with one thread."""
    port = free_port()
    config = directory / "haproxy.cfg"
    config.write_text(f"""\
global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 3s
  timeout client 1h
  timeout server 10s
  timeout http-keep-alive 1h
frontend calls
  bind 127.0.0.1:{port}
  default_backend origin
backend origin
  http-reuse always
  http-request set-header Host localhost
  http-request set-header Authorization "{origin.authorization}"
  server origin 127.0.0.1:{origin.port} ssl verify required ca-file {origin.ca_file} \
sni str(localhost) verifyhost localhost ssl-min-ver TLSv1.3 alpn {protocol}
""")
    return Start(["haproxy", "-db", "-f", str(config)], port, lambda: get_status(port, "/") == 200)


def proxy(where: Path, origin: Origin, extra_env: Mapping[str, str], *, protocol: str = "http/1.1") -> Start:
    """talon-proxy with its defaults: compiled, as in the image, or as its source is."""
    port, admin_port = free_port(), free_port()
    # The caller's own settings would make the figures incomparable.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TALON_PROXY_")}
    env = inherited | {
        "PYTHONPATH": str(where),
        "TALON_PROXY_UPSTREAM__URL": f"https://localhost:{origin.port}",
        "TALON_PROXY_UPSTREAM__TLS__CA_FILE": str(origin.ca_file),
        "TALON_PROXY_UPSTREAM__PROTOCOL": protocol,
        "TALON_PROXY_API_KEY": origin.api_key,
        "TALON_PROXY_LISTEN": f"127.0.0.1:{port}",
        "TALON_PROXY_ADMIN__LISTEN": f"127.0.0.1:{admin_port}",
        **extra_env,
    }
    # -P: not from the working directory.
    command = [sys.executable, "-P", "-m", "proxy", "serve"]
    return Start(command, port, lambda: get_status(admin_port, "/readyz") == 200, env)


def _missing_program(name: str) -> str:
    return "" if shutil.which(name) else f"{name} is not installed"


def _nothing() -> str:
    return ""


def _missing_compiled() -> str:
    return "" if COMPILED.is_dir() else "the compiled proxy is missing: run `make compiled`"
