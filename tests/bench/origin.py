"""The origin: an nginx that answers for Talon.One, fast enough not to be what is measured.

TLS 1.3 with HTTP/1.1 keep-alive or HTTP/2, as the contender asks, or cleartext. It reads the body, answers JSON of the
size that the path asks for, and answers 401 to a call without the right key, so that a contender that does not sign
cannot look fast. A second door leads to the same by way of a sleeper, who takes 25 ms.
"""

import contextlib
import http.client
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.servers import ROOT, BenchError, free_port, get_status, running
from tests.bench.workload import LARGE_REPLY, SMALL_REPLY, answer


@dataclass(frozen=True, slots=True)
class Upstream:
    """What a contender has to know of a door to the origin."""

    port: int
    clear_port: int
    ca_file: Path
    api_key: str

    @property
    def authorization(self) -> str:
        """The header that a contender adds."""
        return f"ApiKey-v1 {self.api_key}"


@dataclass(frozen=True, slots=True)
class Origin:
    """A running origin."""

    fast: Upstream
    slow: Upstream
    status: http.client.HTTPConnection

    def accepted(self) -> int:
        """Connections accepted since the start."""
        return self._counters()[0]

    def answered(self) -> int:
        """Calls since the start, those that ask this among them."""
        return self._counters()[1]

    def _counters(self) -> tuple[int, int]:
        # Always over the same connection, so that asking adds nothing to the count of connections.
        self.status.request("GET", "/status")
        page = self.status.getresponse().read().decode()
        counters = re.search(r"requests\s+(\d+) \d+ (\d+)", page)
        if counters is None:
            raise BenchError(f"the origin's status page is not nginx's stub_status:\n{page}")
        return int(counters[1]), int(counters[2])


@contextlib.contextmanager
def running_origin(
    directory: Path, *, cpu: int | None, lifetime: float, sizes: Sequence[int] = (SMALL_REPLY, LARGE_REPLY)
) -> Iterator[Origin]:
    """Run the origin for the length of the block; it has answers of these sizes."""
    directory.chmod(0o755)  # nginx's worker may be another user
    ports = [free_port() for _ in range(6)]
    api_key = secrets.token_hex(32)
    ca_file = make_certificates(directory)
    answers = directory / "answers"
    answers.mkdir()
    for size in sizes:
        (answers / f"{size}.json").write_text(answer(size))
    config = directory / "origin.conf"
    config.write_text(_config(directory, ports, f"ApiKey-v1 {api_key}"))
    command = ["nginx", "-p", str(directory), "-e", "stderr", "-c", str(config)]
    sleeper = [sys.executable, "-m", "tests.bench.sleeper", str(ports[5])]
    with (
        running("sleeper", sleeper, cpu=cpu, directory=directory, lifetime=lifetime, cwd=ROOT) as sleeping,
        running("origin", command, cpu=cpu, directory=directory, lifetime=lifetime) as server,
    ):
        sleeping.wait_until(lambda: get_status(ports[5], "/") == 200)
        server.wait_until(lambda: get_status(ports[4], "/status") == 200)
        status = http.client.HTTPConnection("127.0.0.1", ports[4], timeout=5)
        with contextlib.closing(status):
            fast, slow = (Upstream(ports[door], ports[door + 1], ca_file, api_key) for door in (0, 2))
            yield Origin(fast, slow, status)


def make_certificates(directory: Path) -> Path:
    """Make a CA and a certificate for localhost (`origin.pem`, `origin.key`); return the CA's file."""
    ca, ca_key, request = directory / "ca.pem", directory / "ca.key", directory / "origin.csr"
    extensions = directory / "origin.ext"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    certificate, key = directory / "origin.pem", directory / "origin.key"
    new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout"
    use = "keyUsage=critical,keyCertSign,cRLSign"
    _openssl(f"req -x509 {new_key} {ca_key} -out {ca} -days 2 -subj /CN=bench-ca -addext {use}")
    _openssl(f"req {new_key} {key} -out {request} -subj /CN=localhost")
    _openssl(
        f"x509 -req -in {request} -CA {ca} -CAkey {ca_key} -CAcreateserial -days 2"
        f" -extfile {extensions} -out {certificate}"
    )
    return ca


def _openssl(arguments: str) -> None:
    command = ["openssl", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command[:2])} failed:\n{done.stderr}")


def _config(directory: Path, ports: Sequence[int], authorization: str) -> str:
    tls, clear, slow_tls, slow_clear, status, sleeper = ports
    known = f'if ($http_authorization != "{authorization}") {{ return 401; }}'
    # One cipher suite, so that every contender pays for the same cryptography.
    return f"""\
daemon off;
master_process off;
pid {directory}/origin.pid;
error_log stderr error;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  default_type application/json;
  client_body_temp_path {directory}/origin-body;
  proxy_temp_path {directory}/origin-proxy;
  client_max_body_size 0;
  client_body_buffer_size 2m;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  ssl_certificate {directory}/origin.pem;
  ssl_certificate_key {directory}/origin.key;
  ssl_protocols TLSv1.3;
  ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384;
  open_file_cache max=100;
  open_file_cache_valid 1h;
  output_buffers 1 2m;
  upstream sleeper {{
    server 127.0.0.1:{sleeper};
    keepalive 512;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
  }}
  server {{
    listen 127.0.0.1:{tls} ssl http2 backlog=4096;
    listen 127.0.0.1:{clear} backlog=4096;
    server_name localhost;
    location / {{
      {known}
      return 200 '{answer(SMALL_REPLY)}';
    }}
    location ~ ^/v2/customer_sessions/(?<size>[0-9]+)- {{
      {known}
      if ($size = {SMALL_REPLY}) {{ return 200 '{answer(SMALL_REPLY)}'; }}
      # A file answers GET only; what asks otherwise is led there by its own refusal.
      root {directory};
      error_page 405 =200 /answers/$size.json;
      try_files /none /answers/$size.json =404;
    }}
    location /answers/ {{
      internal;
      root {directory};
    }}
  }}
  server {{
    listen 127.0.0.1:{slow_tls} ssl http2 backlog=4096;
    listen 127.0.0.1:{slow_clear} backlog=4096;
    server_name localhost;
    location / {{
      {known}
      proxy_pass http://sleeper;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
  server {{
    listen 127.0.0.1:{status};
    location = /status {{ stub_status; }}
  }}
}}
"""
