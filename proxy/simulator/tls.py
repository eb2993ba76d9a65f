"""Certificates for a simulator that is called by https: an authority of its own, and what it vouches for.

Made with the `openssl` program, which is on developers' machines and in the image (Debian's `ca-certificates` needs
it), so that TLS costs no dependency at run time. The authority can vouch for nothing but the hosts it was made for:
whoever trusts it on a developer's machine, and has its key stolen, is not exposed to any other name.
"""

import ipaddress
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

HOSTS = ("localhost", "127.0.0.1", "::1")
DAYS = "825"  # what Apple's systems accept at most
AUTHORITY = "ca.pem"  # what callers trust
CERTIFICATE = "server.pem"
KEY = "server.key"


class TlsError(Exception):
    """No certificate can be made; the text says why, in one line."""


def prepare(folder: Path, hosts: Sequence[str] = HOSTS) -> ssl.SSLContext:
    """The context of a server with a certificate for `hosts`, and the authority in `folder`.

    What lies there is used again as long as it serves, so that trusting it once is enough. The authority's key is
    never stored: nothing else can be signed with it. Raises TlsError.
    """
    try:
        if not _serves(folder, hosts):
            folder.mkdir(parents=True, exist_ok=True)
            _make(folder, hosts)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    except FileNotFoundError as error:
        raise TlsError(f"needs {error.filename}, which is not there") from error
    except OSError as error:
        raise TlsError(f"{error.filename or folder}: {error.strerror or error}") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def _serves(folder: Path, hosts: Sequence[str]) -> bool:
    """Whether the authority vouches for all hosts today and tomorrow."""
    if not all((folder / name).is_file() for name in (AUTHORITY, CERTIFICATE, KEY)):
        return False
    known = ("openssl", "verify", "-CAfile", str(folder / AUTHORITY))
    checks = [(*known, "-verify_ip" if _is_address(host) else "-verify_hostname", host) for host in hosts]
    certificate = str(folder / CERTIFICATE)
    lasts = ("openssl", "x509", "-noout", "-checkend", "86400", "-in")
    return all(_run(*check, certificate).returncode == 0 for check in (*checks, lasts))


def _make(folder: Path, hosts: Sequence[str]) -> None:
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", DAYS)
    permitted = ",".join(_permitted(host) for host in hosts)
    names = ",".join(f"IP:{host}" if _is_address(host) else f"DNS:{host}" for host in hosts)
    with TemporaryDirectory() as name:
        made = Path(name)
        _must(
            *("openssl", "req", "-x509", *new_key, "-subj", "/CN=talon-proxy simulator (for tests only)"),
            *("-addext", "basicConstraints=critical,CA:TRUE,pathlen:0", "-addext", "keyUsage=critical,keyCertSign"),
            *("-addext", f"nameConstraints=critical,{permitted}"),
            *("-keyout", str(made / "ca.key"), "-out", str(made / AUTHORITY)),
        )
        _must(
            *("openssl", "req", "-x509", *new_key, "-subj", f"/CN={hosts[0]}"),
            *("-CA", str(made / AUTHORITY), "-CAkey", str(made / "ca.key")),
            *("-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth"),
            *("-addext", f"subjectAltName={names}"),
            *("-keyout", str(made / KEY), "-out", str(made / CERTIFICATE)),
        )
        for file in (AUTHORITY, CERTIFICATE, KEY):
            _place(folder / file, (made / file).read_bytes(), secret=file == KEY)


def _place(path: Path, content: bytes, *, secret: bool) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600 if secret else 0o644, exist_ok=False)
    path.write_bytes(content)


def _permitted(host: str) -> str:
    if not _is_address(host):
        return f"permitted;DNS:{host}"
    network = ipaddress.ip_network(host)  # of this one address
    return f"permitted;IP:{network.network_address}/{network.netmask}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _must(*command: str) -> None:
    done = _run(*command)
    if done.returncode:
        raise TlsError(
            f"openssl failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no reason'}"
        )


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (fixed words and hosts)
