"""The others: nginx, HAProxy and Caddy from Debian, and the proxy one would write with aiohttp in an afternoon."""

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bench.contenders import Contender, Place, Start, program
from tests.bench.servers import get_status

MANY = 10_500  # connections of callers, for those who come ten thousand at a time
# HAProxy wants two files for every connection that it may have, and does not start without.
HAPROXY_CONNECTIONS = min(MANY, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 1_000) // 2)


def peers() -> list[Contender]:
    """All of them."""
    return [
        Contender("nginx", "nginx", nginx, program("nginx")),
        Contender("haproxy", "HAProxy", haproxy, program("haproxy")),
        Contender("caddy", "Caddy", caddy, program("caddy")),
        Contender("aiohttp", "aiohttp on both sides, on uvloop", afternoon),
        Contender("haproxy-h2", "HAProxy, HTTP/2", lambda place: haproxy(place, alpn="h2"), program("haproxy")),
        Contender("nginx-clear", "nginx", lambda place: nginx(place, tls=False), program("nginx")),
        Contender("haproxy-clear", "HAProxy", lambda place: haproxy(place, tls=False), program("haproxy")),
        Contender("caddy-clear", "Caddy", lambda place: caddy(place, tls=False), program("caddy")),
        Contender("aiohttp-clear", "aiohttp on both sides, on uvloop", lambda place: afternoon(place, tls=False)),
    ]


def nginx(place: Place, *, tls: bool = True) -> Start:
    """One nginx worker under its master."""
    directory, upstream = place.directory, place.upstream
    config = directory / "nginx.conf"
    # As root, nginx would change to a user that may not exist here.
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "\n  ".join(
        f"{kind}_temp_path {directory}/nginx-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    secured = f"""\
proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {upstream.ca_file};
      proxy_ssl_server_name on;
      proxy_ssl_name localhost;
      proxy_ssl_protocols TLSv1.3;"""
    # Bodies stay in memory, as they do with the others.
    config.write_text(f"""\
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile {MANY + 2_500};
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections {MANY + 2_000}; }}
http {{
  access_log off;
  {temporary}
  client_max_body_size 8m;
  client_body_buffer_size 2m;
  proxy_buffers 64 8k;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  upstream origin {{
    server 127.0.0.1:{upstream.port if tls else upstream.clear_port};
    keepalive 640;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
  }}
  server {{
    listen 127.0.0.1:{place.port} backlog=4096;
    listen unix:{place.socket} backlog=4096;
    location / {{
      proxy_pass {"https" if tls else "http"}://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host localhost;
      proxy_set_header Authorization "{upstream.authorization}";
      {secured if tls else ""}
    }}
  }}
}}
""")
    return Start(["nginx", "-p", str(directory), "-e", "stderr", "-c", str(config)], _answers(place))


def haproxy(place: Place, *, tls: bool = True, alpn: str = "http/1.1") -> Start:
    """HAProxy with one thread."""
    upstream = place.upstream
    config = place.directory / "haproxy.cfg"
    secured = f"ssl verify required ca-file {upstream.ca_file} sni str(localhost) verifyhost localhost"
    secured += f" ssl-min-ver TLSv1.3 alpn {alpn}"
    config.write_text(f"""\
global
  nbthread 1
  maxconn {HAPROXY_CONNECTIONS}
defaults
  mode http
  timeout connect 3s
  timeout client 1h
  timeout server 10s
  timeout http-keep-alive 1h
frontend calls
  bind 127.0.0.1:{place.port} backlog 4096
  bind unix@{place.socket} backlog 4096
  default_backend origin
backend origin
  http-reuse always
  http-request set-header Host localhost
  http-request set-header Authorization "{upstream.authorization}"
  server origin 127.0.0.1:{f"{upstream.port} {secured}" if tls else upstream.clear_port}
""")
    return Start(["haproxy", "-db", "-f", str(config)], _answers(place))


def caddy(place: Place, *, tls: bool = True) -> Start:
    """Caddy on one core; Go's runtime is told that there is one."""
    upstream = place.upstream
    transport: dict[str, object] = {
        "protocol": "http",
        "keep_alive": {"max_idle_conns_per_host": 640, "idle_timeout": "1h"},
    }
    if tls:
        transport["tls"] = {"root_ca_pem_files": [str(upstream.ca_file)], "server_name": "localhost"}
        transport["versions"] = ["1.1"]
    forward = {
        "handler": "reverse_proxy",
        "transport": transport,
        "upstreams": [{"dial": f"127.0.0.1:{upstream.port if tls else upstream.clear_port}"}],
        "headers": {"request": {"set": {"Host": ["localhost"], "Authorization": [upstream.authorization]}}},
    }
    server = {
        "listen": [f"127.0.0.1:{place.port}", f"unix/{place.socket}"],
        "automatic_https": {"disable": True},
        "idle_timeout": "1h",
        "routes": [{"handle": [forward]}],
    }
    config = place.directory / "caddy.json"
    config.write_text(
        json.dumps(
            {
                "admin": {"disabled": True},
                "logging": {"logs": {"default": {"level": "ERROR"}}},
                "apps": {"http": {"servers": {"calls": server}}},
            }
        )
    )
    home = {"HOME": str(place.directory), "XDG_DATA_HOME": str(place.directory), "GOMAXPROCS": "1"}
    return Start(["caddy", "run", "--config", str(config)], _answers(place), {**os.environ, **home})


def afternoon(place: Place, *, tls: bool = True) -> Start:
    """See `tests.bench.afternoon`."""
    upstream = place.upstream
    url = f"https://localhost:{upstream.port}" if tls else f"http://127.0.0.1:{upstream.clear_port}"
    command = [sys.executable, "-m", "tests.bench.afternoon", str(place.port), str(place.socket), url]
    return Start(
        [*command, str(upstream.ca_file)], _answers(place), {**os.environ, "AUTHORIZATION": upstream.authorization}
    )


def _answers(place: Place) -> Callable[[], bool]:
    return lambda: get_status(place.port, "/v2/x") == 200 and Path(place.socket).exists()
