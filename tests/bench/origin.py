"""The origin: an nginx that answers for Talon.One, fast enough not to be what is measured.

TLS 1.3 with HTTP/1.1 keep-alive or HTTP/2, as the contender asks; it reads the body, answers 3,500 bytes of JSON, and
answers 401 to a call without the right key, so that a contender that does not sign cannot look fast.
"""

import contextlib
import http.client
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.servers import BenchError, free_port, get_status, running
from tests.bench.workload import reply_body


@dataclass(frozen=True, slots=True)
class Origin:
    """A running origin and what a contender has to know of it."""

    port: int
    ca_file: Path
    api_key: str
    status: http.client.HTTPConnection

    @property
    def authorization(self) -> str:
        """The header that a contender adds."""
        return f"ApiKey-v1 {self.api_key}"

    def accepted(self) -> int:
        """Connections accepted since the start."""
        # Always over the same connection, so that asking adds nothing to the count.
        self.status.request("GET", "/status")
        page = self.status.getresponse().read().decode()
        counters = re.search(r"requests\s+(\d+) ", page)
        if counters is None:
            raise BenchError(f"the origin's status page is not nginx's stub_status:\n{page}")
        return int(counters[1])


@contextlib.contextmanager
def running_origin(directory: Path, *, cpu: int | None, lifetime: float) -> Iterator[Origin]:
    """Run the origin for the length of the block."""
    port, status_port = free_port(), free_port()
    api_key = secrets.token_hex(32)
    ca_file = make_certificates(directory)
    config = directory / "origin.conf"
    config.write_text(_config(directory, port, status_port, f"ApiKey-v1 {api_key}"))
    command = ["nginx", "-p", str(directory), "-e", "stderr", "-c", str(config)]
    with running("origin", command, cpu=cpu, directory=directory, lifetime=lifetime) as server:
        server.wait_until(lambda: get_status(status_port, "/status") == 200)
        status = http.client.HTTPConnection("127.0.0.1", status_port, timeout=5)
        with contextlib.closing(status):
            yield Origin(port, ca_file, api_key, status)


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


def _config(directory: Path, port: int, status_port: int, authorization: str) -> str:
    # One cipher suite, so that every contender pays for the same cryptography.
    return f"""\
daemon off;
master_process off;
pid {directory}/origin.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  default_type application/json;
  client_body_temp_path {directory}/origin-body;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    server_name localhost;
    ssl_certificate {directory}/origin.pem;
    ssl_certificate_key {directory}/origin.key;
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384;
    location / {{
      if ($http_authorization != "{authorization}") {{ return 401; }}
      return 200 '{reply_body()}';
    }}
  }}
  server {{
    listen 127.0.0.1:{status_port};
    location = /status {{ stub_status; }}
  }}
}}
"""
