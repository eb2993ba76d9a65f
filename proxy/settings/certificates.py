"""Certificates: whether the files that settings name hold what they should. Each check gives what is wrong, or None."""

import ssl
from pathlib import Path


def refused_authorities(file: Path) -> str | None:
    """Try to trust the authorities of a file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:  # before OSError, of which it is one
        return f"{file} holds no certificate in PEM form"
    except OSError as exc:
        return f"{file} cannot be read: {exc.strerror}"
    return None if context.cert_store_stats()["x509"] else f"{file} holds no certificate in PEM form"


def refused_pair(certificate: Path, key: Path) -> str | None:
    """Try to use a certificate and its key."""

    def refuse() -> str:
        # Else OpenSSL would ask for it on the terminal.
        raise ValueError(f"{key} has a password; use a key without one")

    for file in (certificate, key):
        try:
            file.open("rb").close()
        except OSError as exc:
            return f"{file} cannot be read: {exc.strerror}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, refuse)
    except ssl.SSLError as exc:
        if exc.reason == "KEY_VALUES_MISMATCH":
            return f"{certificate} does not belong to {key}"
        return f"{certificate} or {key} is not in PEM form"
    except ValueError as exc:
        return str(exc)
    return None
