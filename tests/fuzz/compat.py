"""What may stand in the settings of talon-access-proxy → ours, or a list of problems.

The input is variables of it, one a line, an empty line, and its Hjson file. Whatever stands there, loading gives
settings or problems, each on one line.
"""

import atexit
import os
import tempfile
from pathlib import Path

from proxy.settings import SettingsError, load
from tests.fuzz.target import Target
from tests.given import NOW, URL

NAMES = ("ADDRESS", "APP_ADDRESS", "PORT", "APP_PORT", "APP_ROOT", "DEBUG", "HTTPS_PROXY")
_FOLDER = tempfile.TemporaryDirectory(prefix="talon-proxy-fuzz-")
atexit.register(_FOLDER.cleanup)
FILE = Path(_FOLDER.name) / "config.json"


def check(data: bytes) -> None:
    """See `target.Target`."""
    head, _, text = data.partition(b"\n\n")
    environ = {"APP_CONFIG": str(FILE)}
    for line in head.decode("utf-8", "surrogateescape").replace("\0", "").split("\n"):
        name, given, value = line.partition("=")
        if given and name in NAMES:
            environ[name] = value
    with os.fdopen(os.open(FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(text)
    try:
        loaded = load(["--compat", "talon-access-proxy"], environ, now=NOW)
    except SettingsError as error:
        told = [str(problem) for problem in (*error.problems, *error.warnings)]
        assert error.problems  # noqa: PT017
    else:
        told = [*loaded.warnings]
    assert all(text.isprintable() for text in told)


TARGET = Target(
    check,
    seeds=[
        b'\n\n{ Address: ":8000", TalonAPI: "%b", Root: "/talon" }' % URL.encode(),
        b'PORT=8000\nDEBUG=1\n\n[ { TalonAPI: "%b/path", maxconnections: 20 } ]' % URL.encode(),
        b'ADDRESS=127.0.0.1:0\nAPP_ROOT=/a\n\n{ Application: { "1": { CalculateHMAC: true, ApplicationToken: "x" } } }',
        b"\n\n[\n  {\n    // one\n    Address: 127.0.0.1:1\n    DNSServer: '''\n    8.8.8.8\n    '''\n  },\n  { }\n]",
        b'HTTPS_PROXY=http://egress:3128\n\n{ "talonapi": "http://127.0.0.1:9", "maxConnections": 0, x: null }',
    ],
    tokens=[
        *(
            b"{",
            b"}",
            b"[",
            b"]",
            b":",
            b",",
            b'"',
            b"'''",
            b"#",
            b"//",
            b"/*",
            b"*/",
            b"\n",
            b"null",
            b"true",
            b"1e999",
        ),
        *(
            b"TalonAPI: ",
            b"Address: ",
            b"Application: ",
            b"Root: ",
            b"maxconnections: ",
            b"https://",
            b"https://[",
            b"]",
        ),
        *(b"DEBUG=", b"PORT=", b"ADDRESS=", b"APP_ROOT=", b"\xff", b"\xef\xbb\xbf", b"9" * 40, b"-1", b"?", b"\x1b"),
    ],
)
